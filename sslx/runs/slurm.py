"""The runs of a grid as the tasks of a Slurm array. Slurm starts, stops and repeats them; each is a command of its own.

What is finished is seen from the folders of the runs, what is still to come from Slurm's queue. Nothing else is kept.
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import sys
from collections.abc import Collection, Sequence

from sslx.core.console import say
from sslx.core.errors import ConfigError, SslxError
from sslx.runs.grid import Grid, is_grid

_MISSING = "--launcher slurm: there is no `{}` here; it needs a machine from which Slurm takes jobs"
# Slurm warns two minutes before the time limit. A run that it stops goes back into the queue.
_SCRIPT = """\
#!/bin/bash
#SBATCH --signal=TERM@120 --requeue --open-mode=append
runs=({runs})
srun {command} "${{runs[$SLURM_ARRAY_TASK_ID]}}"{flags}
code=$?
if [ $code = 75 ]; then scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"; fi
exit $code
"""


def submit(grid: Grid, options: Sequence[str], at_once: int | None) -> list[str]:
    """Submit the runs that are neither finished nor in the queue. With sbatch's option --wait, wait until they end.

    The output of run k is in `slurm-k.log` in the folder of the grid.

    Args:
        options: of sbatch, such as --partition=gpu.
        at_once: the largest number of tasks that run at the same time, by default any.

    Returns a line for each run that has ended without results. Raises SslxError if Slurm refuses the job.
    """
    if (n := grid.launch.devices) > 1:
        raise ConfigError(f"--devices: the processes of a run are tasks of Slurm: --launcher 'slurm --ntasks={n}'")
    folder, is_new = grid.path.absolute(), not is_grid(grid.path)
    job = f"sslx-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    before = _queued(job)  # first, so that nothing is written where there is no Slurm
    grid.create()
    if before:
        say(f"already in the queue of Slurm: {_runs(before)}")
    if todo := [number for number in _unfinished(grid) if number not in before]:
        script = _SCRIPT.format(
            runs=shlex.join(str(folder / name) for name in grid.configs),
            command=shlex.join([sys.executable, "-m", "sslx", "resume"]),
            flags=" --trust-code" if grid.trust_code else "",
        )
        array = ",".join(map(str, todo)) + ("" if at_once is None else f"%{at_once}")
        begun = [number for number in todo if (folder / list(grid.configs)[number]).exists()]
        again = f", {len(begun)} of them begun before" if begun else ""
        mine = [f"--job-name={job}", f"--array={array}", f"--output={folder / 'slurm-%a.log'}"]
        try:
            _said("sbatch", *mine, *options, script=script)
        except SslxError:
            if is_new:
                grid.discard()
            raise
        say(f"submitted to Slurm: {_runs(todo)}{again}; the output is in {grid.path / 'slurm-*.log'}")
    after = _queued(job)
    if after:
        say(f"in the queue: {_runs(after)}; `squeue --name={job}` shows them, and the same command their results")
    ended = {name: number for number, name in _unfinished(grid).items() if number not in after}
    logs = [f"{name}: its task has ended; its output is in {grid.path / f'slurm-{ended[name]}.log'}" for name in ended]
    return grid.failed(list(ended)) + logs


def _runs(some: Collection[int]) -> str:
    return "1 run" if len(some) == 1 else f"{len(some)} runs"


def _unfinished(grid: Grid) -> dict[int, str]:
    """Numbers and names of the runs without results."""
    finished = {run.path.name for run in grid.finished()}
    return {number: name for number, name in enumerate(grid.configs) if name not in finished}


def _queued(job: str) -> set[int]:
    """Numbers of the runs that Slurm has in its queue or carries out."""
    tasks = _said("squeue", "--me", "--noheader", "--array", f"--name={job}", "--format=%K %t").splitlines()
    return {int(task.split()[0]) for task in tasks if not task.endswith("CG")}  # completing


def _said(*command: str, script: str | None = None) -> str:
    """What a command of Slurm prints. Raises SslxError if it fails, but not if tasks do for which --wait waits."""
    try:
        done = subprocess.run(command, input=script, capture_output=True, text=True)
    except FileNotFoundError:
        raise ConfigError(_MISSING.format(command[0])) from None
    if done.returncode != 0 and (script is None or not done.stdout):
        said = " ".join(done.stderr.split())
        raise SslxError(said or f"{command[0]}: ended with code {done.returncode}")
    return done.stdout
