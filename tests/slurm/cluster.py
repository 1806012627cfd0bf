"""A Slurm of one machine: its controller, its daemon and munge, in a folder of their own. It needs root.

python tests/slurm/cluster.py FOLDER    starts one that stays; `export SLURM_CONF=FOLDER/slurm.conf`, then `srun` works
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol", "scancel")
CONFIG = """\
ClusterName=sslx
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0,requeue_delay=1
KillWait=20
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why no Slurm can be started here; empty if one can."""
    if os.getuid() != 0:
        return "Slurm's daemons need root"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"{', '.join(absent)} not installed (apt-get install slurm-wlm munge)" if absent else ""


class Cluster:
    """Started with the object; `environment` is what its commands need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        os.chmod(self.folder, 0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        config = self.folder / "slurm.conf"
        config.write_text(CONFIG.format(host=socket.gethostname(), folder=self.folder, ports=_ports(2)))
        self.environment = {**os.environ, "SLURM_CONF": str(config)}
        munge = ["--force", f"--socket={self.folder}/munge.socket", f"--key-file={key}", "--num-threads=1"]
        munge += [f"--{kind}-file={self.folder}/munge.{kind}" for kind in ("pid", "log", "seed")]
        for command in (["munged", *munge], ["slurmctld"], ["slurmd"]):
            subprocess.run(command, env=self.environment, check=True)
        until = time.monotonic() + 60
        while "idle" not in self.run("sinfo", "--noheader"):
            assert time.monotonic() < until, "Slurm did not become ready"
            time.sleep(0.2)

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """What a command prints, its errors too."""
        done = subprocess.run(command, env=self.environment, cwd=cwd, capture_output=True, text=True, timeout=240)
        return done.stdout + done.stderr

    def stop(self) -> None:
        self.run("scancel", "--user=root")
        for name in ("slurmd", "slurmctld", "munge"):
            os.kill(int((self.folder / f"{name}.pid").read_text()), signal.SIGTERM)


def _ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


if __name__ == "__main__":
    print(Cluster(Path(sys.argv[1])).run("sinfo"))
