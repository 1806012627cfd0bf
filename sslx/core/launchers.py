"""Which of several processes this one is, where Slurm or Open MPI has started it.

Both number their processes in variables of their own. They are translated into torchrun's, which the rest reads.
"""

import os
import re
import zlib
from collections.abc import Mapping


def join() -> None:
    """Set torchrun's variables from those of Slurm or Open MPI, unless they are set or there is one process alone."""
    if "RANK" in os.environ:
        return
    for found in (_slurm(os.environ), _open_mpi(os.environ)):
        if int(found.get("WORLD_SIZE", 1)) > 1:
            for name, value in found.items():
                os.environ.setdefault(name, value)
            return


def _slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a step, which `srun` starts. The script of `sbatch`, which is a single process, has no step."""
    if "SLURM_STEP_NUM_TASKS" not in environment:
        return {}
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", "1")  # such as 4(x2),3
    cpus = int(environment.get("SLURM_CPUS_PER_TASK", 0)) or (os.cpu_count() or 1) // int(re.findall(r"\d+", tasks)[0])
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "MASTER_ADDR": first_host(environment["SLURM_STEP_NODELIST"]),
        "MASTER_PORT": _port(f"{environment['SLURM_JOB_ID']}.{environment['SLURM_STEP_ID']}"),
        "OMP_NUM_THREADS": str(max(1, cpus)),
    }


def _open_mpi(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of `mpirun`. On several machines the user has to set MASTER_ADDR, which Open MPI does not say."""
    if "OMPI_COMM_WORLD_RANK" not in environment:
        return {}
    world, local = environment["OMPI_COMM_WORLD_SIZE"], environment["OMPI_COMM_WORLD_LOCAL_SIZE"]
    job = environment.get("PMIX_NAMESPACE") or environment.get("OMPI_MCA_ess_base_jobid", "")
    return {
        "RANK": environment["OMPI_COMM_WORLD_RANK"],
        "WORLD_SIZE": world,
        "LOCAL_RANK": environment["OMPI_COMM_WORLD_LOCAL_RANK"],
        **({"MASTER_ADDR": "127.0.0.1"} if world == local else {}),
        "MASTER_PORT": _port(job),
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // int(local))),
    }


def first_host(nodes: str) -> str:
    """The first host of a list as Slurm writes it, such as node[01-03,07],gpu5."""
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", nodes).split(",")[0]


def _port(job: str) -> str:
    """A port that all processes of a job know without talking, below those that systems give to clients."""
    return str(12000 + zlib.crc32(job.encode()) % 20000)
