"""The same command in several processes of this machine."""

import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

from sslx.core import signals
from sslx.core.console import FORSAKEN, printable
from sslx.core.errors import ConfigError, Interrupted

GRACE = 10.0  # seconds that the other processes have to end once one of them was lost
_RUN = "run"  # file beside the rendezvous, which says where the run is
_KEPT = 20  # last lines of each process that are shown if it alone fails


def relaunch(processes: int) -> int:
    """Run this command line in `processes` processes and return its exit code, as that of one process.

    The first process speaks for all. If another one fails alone, its last lines are shown. Stop signals are passed on,
    and once a process is lost the others are ended within `GRACE` seconds.
    """
    if processes > (most := max(8, os.cpu_count() or 1)):
        raise ConfigError(f"--devices: expected at most {most} on this machine, got {processes}")
    with tempfile.TemporaryDirectory(prefix="sslx-") as folder:
        return _Group(processes, Path(folder) / "rendezvous").wait()


def announce(run: Path) -> None:
    """Tell the process that launched this one where the run is."""
    if file := os.environ.get("SSLX_RENDEZVOUS"):
        Path(file).with_name(_RUN).write_text(str(run))


def heed_launcher() -> None:
    """Stop this process at the next step boundary if the one that launched it is killed."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    if "SSLX_RENDEZVOUS" in os.environ:
        threading.Thread(target=watch, daemon=True).start()


class _Group:
    """Processes that find each other through a file."""

    def __init__(self, processes: int, rendezvous: Path) -> None:
        common = {**os.environ, "WORLD_SIZE": str(processes), "SSLX_RENDEZVOUS": str(rendezvous)}
        if os.getcwd() not in sys.path:  # nor may `-m` put it there, where a module could hide an installed one
            common["PYTHONSAFEPATH"] = "1"
        common.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
        self.said = [deque[str](maxlen=_KEPT) for _ in range(processes)]
        self.run = rendezvous.with_name(_RUN)
        self.children, self.listeners = list[subprocess.Popen[str]](), list[threading.Thread]()
        for rank in range(processes):
            environment = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            # A session of its own: Ctrl-C reaches it once, through us.
            child = subprocess.Popen(
                [sys.executable, "-m", "sslx", *sys.argv[1:]],
                env=environment,
                start_new_session=True,
                stdin=subprocess.PIPE,  # which closes if this process is killed
                stdout=None if rank == 0 else subprocess.DEVNULL,
                stderr=None if rank == 0 else subprocess.PIPE,
                text=True,
                errors="replace",
            )
            self.children.append(child)
            if child.stderr is not None:
                listener = threading.Thread(target=self.said[rank].extend, args=(child.stderr,), daemon=True)
                listener.start()
                self.listeners.append(listener)

    def wait(self) -> int:
        asked, deadline, lost = False, math.inf, dict[int, int]()
        try:
            while True:
                codes = [child.poll() for child in self.children]
                if any(codes) and deadline == math.inf:
                    lost = {rank: code for rank, code in enumerate(codes) if code and code < 0}
                    deadline = time.monotonic() + GRACE
                if None not in codes:
                    break
                if signals.received() and not asked:
                    asked = True
                    self._send(signal.Signals[signals.received()])  # they save at the next step boundary
                if time.monotonic() > deadline:
                    self._send(signal.SIGKILL)
                time.sleep(0.05)
        except BaseException:
            self._send(signal.SIGKILL)
            raise
        for listener in self.listeners:
            listener.join(timeout=1)
        for rank, code in lost.items():
            run = self.run.read_text() if self.run.exists() else ""
            advice = f"; `sslx resume {printable(run)}` continues" if run else ""
            name = signal.Signals(-code).name
            how = f"{name}, as systems do when memory runs out" if name == "SIGKILL" else name
            print(f"sslx: process {rank} was ended by {how}{advice}", file=sys.stderr)
            return 1
        if Interrupted.exit_code in codes:
            return Interrupted.exit_code
        ended = [(rank, code) for rank, code in enumerate(codes) if code]
        ended = [each for each in ended if each[1] != FORSAKEN] or ended
        for rank, code in ended:
            sys.stderr.writelines(self.said[rank])  # nothing of process 0, which has said it itself
            return code if code in (1, 2, 130) else 1
        return 0

    def _send(self, number: signal.Signals) -> None:
        for child in self.children:
            if child.poll() is None:
                child.send_signal(number)
