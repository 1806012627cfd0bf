"""Where a run happens: the device, the precision, and the processes that share the work. Methods know none of this.

Plain `torch.distributed`: `--devices`, `torchrun`, Slurm's `srun` or Open MPI's `mpirun` starts the processes.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import attrs
import torch
import torch.distributed as dist
from torch import Tensor, nn

from sslx.core.errors import ConfigError, SslxError
from sslx.core.launchers import join
from sslx.core.training import rendezvous
from sslx.core.training.normalization import share_statistics
from sslx.core.training.precision import autocast
from sslx.core.views import Views

LIMIT = timedelta(minutes=30)  # the longest that a process waits for the others
T = TypeVar("T")


def lost(error: BaseException) -> bool:
    """Whether an error of a collective operation says that another process is gone."""
    signs = ("closed by peer", "reset by peer", "Timed out", "timed out", "Broken pipe", "NCCL", "Socket")
    return isinstance(error, RuntimeError) and dist.is_initialized() and any(sign in str(error) for sign in signs)


class _Step(nn.Module):
    """The module that DDP wraps. The method is an attribute of it, so that its own attributes stay reachable."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, views: Views) -> Any:
        return self.method(views)


@attrs.frozen
class Runtime:
    """One process of a run."""

    device: torch.device
    rank: int = 0
    world: int = 1
    precision: str = "fp32"

    @classmethod
    def start(cls, device: str = "auto", precision: str = "fp32") -> Runtime:
        """Join the process group, if there is one. Raises ConfigError for a device that is not there."""
        join()
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        local = int(os.environ.get("LOCAL_RANK", 0))
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            target = torch.device(device)
            if target.type == "cuda" and target.index is None:
                target = torch.device(
                    "cuda", local % max(1, torch.cuda.device_count())
                )  # Slurm may show each task its own
            torch.empty(1, device=target).item()  # which the device `meta` cannot
        except (RuntimeError, AssertionError) as error:
            reason = re.split(r"[.:]( |$)| device type at", str(error), maxsplit=1)[0]  # without torch's addresses
            advice = "--device cpu uses the processor"
            raise ConfigError(f"device: {device!r} cannot be used here: {reason}; {advice}") from error
        if target.type == "cuda":
            torch.cuda.set_device(target)
        if "RANK" in os.environ and not dist.is_initialized():
            rendezvous.join("nccl" if target.type == "cuda" else "gloo", rank, world, LIMIT)
        return cls(target, rank, world, precision)

    @property
    def main(self) -> bool:
        """Whether this is the one process that writes and prints."""
        return self.rank == 0

    def wrap(self, method: nn.Module, norm: str = "shared") -> nn.Module:
        """The module to call for a training step. The method itself stays usable for everything else.

        With several processes, batch normalization has the statistics of all of them from here on, if `norm` is
        "shared".
        """
        if self.world == 1:
            return method
        if norm == "shared":
            share_statistics(method, self.device)
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(_Step(method), device_ids=ids)

    def autocast(self) -> AbstractContextManager[Any]:
        return autocast(self.precision, self.device)

    def agree(self, *flags: float) -> list[float]:
        """The largest value of each flag over all processes, so that all of them act alike."""
        if self.world == 1:
            return list(flags)
        tensor = torch.tensor(flags, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return [float(value) for value in tensor.tolist()]

    def total(self, value: float) -> float:
        """Sum of a number over all processes."""
        if self.world == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return float(tensor)

    def lead(self, act: Callable[[], T]) -> T:
        """What the main process alone does: its result on all processes, or the error that it raises."""
        if self.world == 1:
            return act()
        outcome: tuple[Any, Exception | None] = (None, None)
        if self.main:
            try:
                outcome = act(), None
            except SslxError as error:
                outcome = None, error
            except Exception as error:  # which may not be able to travel
                self.share((None, SslxError(f"{type(error).__name__}: {error}")))
                raise
        result, problem = self.share(outcome)
        if problem is not None:
            raise problem
        found: T = result
        return found

    def mean(self, values: Tensor) -> Tensor:
        """Mean over all processes."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world
        return values

    def share(self, value: Any) -> Any:
        """The main process's value, on all processes."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def collect(self, value: Any) -> list[Any]:
        """Every process's value, on all processes, in order of rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    @staticmethod
    def stop() -> None:
        """Leave the process group."""
        if dist.is_initialized():
            dist.destroy_process_group()

    @classmethod
    def leave(cls, code: int) -> NoReturn:
        """End one of several processes without Python's work at exit, where the destructors of gloo's threads sometimes
        abort a run that has succeeded. All files are written by now.
        """
        cls.stop()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
