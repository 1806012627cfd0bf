"""Several processes on one machine: which one this is, and the same command again under torchrun."""

import os
import subprocess
import sys
import time

from sslx.core import signals
from sslx.core.errors import Interrupted


def is_main() -> bool:
    """Whether this is the one process that writes and prints."""
    return os.environ.get("RANK", "0") == "0"


def is_launched() -> bool:
    """Whether a launcher such as torchrun started this process."""
    return "RANK" in os.environ


def relaunch(processes: int) -> int:
    """Run this command line in `processes` processes and return its exit code: 0, 1 or, after a stop signal, 75."""
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    # A session of its own: Ctrl-C reaches torchrun once, through us, and not every worker a second time.
    child = subprocess.Popen([*torchrun, "-m", "sslx", *sys.argv[1:]], env=environment, start_new_session=True)
    asked = False
    try:
        while child.poll() is None:
            if signals.received() and not asked:
                asked = True
                child.terminate()  # torchrun passes it on; workers save at the next step boundary
            time.sleep(0.1)
    except KeyboardInterrupt:
        child.kill()
        raise
    if child.returncode and asked:
        return Interrupted.exit_code
    return 1 if child.returncode else 0
