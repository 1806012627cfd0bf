"""Processes that evaluate together. Each has a part of the features, and the main one asks for what it needs of them.

The main process alone runs evaluators. The others answer it until it has finished, so that no evaluator has to be
written for several processes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import attrs
import torch
import torch.distributed as dist
from torch import Tensor

from sslx.core.errors import Interrupted, SslxError

__all__ = ["Parts"]

_PING = 60.0  # seconds after which the others are told that this process still works
T = TypeVar("T")


class Team:
    """One of the processes. All of them make it, then the main one is `leading` and the others `serve`.

    Args:
        encode: called with the names of a method, a half of the images and a representation; it returns the features
            (n, D) of the images of this process, on the CPU.
        limit: the longest that a process waits for the others.
    """

    def __init__(self, encode: Callable[[str, str, str], Tensor], limit: timedelta) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._encode = encode
        group = dist.new_group(backend="gloo", timeout=limit)
        assert isinstance(group, dist.ProcessGroup), "all processes are in it"
        self._group = group
        self._lock = threading.Lock()  # of the group, while one request is on its way
        self._features: dict[str, tuple[int, Tensor]] = {}  # position of the first row, and the rows
        self._kept: Callable[..., Any] | None = None

    # --- the main process ---------------------------------------------------------------------------------------------

    @contextmanager
    def leading(self) -> Iterator[None]:
        """The others serve until the end of the block, and end as it does."""
        over, how = threading.Event(), None

        def ping() -> None:
            with suppress(RuntimeError):  # another process is gone, which the next request says
                while not over.wait(_PING):
                    with self._lock:
                        self._tell("wait")

        pings = threading.Thread(target=ping, daemon=True)
        pings.start()
        try:
            yield
        except BaseException as error:
            how = error if isinstance(error, Interrupted) else SslxError(f"{type(error).__name__}: {error}")
            raise
        finally:
            over.set()
            pings.join()
            try:
                self._tell("end", how)
            except RuntimeError:  # another process is gone
                if how is None:  # otherwise this is what has ended the block, or is less than that
                    raise

    def features(self, method: str, half: str, of: str) -> Parts:
        """A representation of all images of a half, of which each process computes and keeps a part."""
        key = f"{of} of {method} {half}"
        shapes = self.ask("encode", key, method, half, of)
        start = 0
        starts = [start := start + rows for rows, _ in [(0, 0), *shapes[:-1]]]
        width = max(width for _, width in shapes)  # that of no image is not known
        self.ask("place", key, starts, width)
        return Parts(self, key, torch.arange(sum(rows for rows, _ in shapes)), width)

    def ask(self, name: str, *arguments: Any) -> list[Any]:
        """What a request returns in each process, in order of rank. Raises what fails in one of them."""
        with self._lock:
            self._tell(name, *arguments)
            found = self._outcome(name, arguments)
            outcomes: list[Any] = [None] * self.world
            dist.gather_object(found, outcomes, group=self._group)
        for _, error in outcomes:
            if error is not None:
                raise error
        return [outcome for outcome, _ in outcomes]

    def _tell(self, name: str, *arguments: Any) -> None:
        dist.broadcast_object_list([(name, arguments)], src=0, group=self._group)

    # --- all of them --------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Answer the main process until it has finished. Raises what has ended it."""
        while True:
            box: list[Any] = [None]
            dist.broadcast_object_list(box, src=0, group=self._group)
            name, arguments = box[0]
            if name == "end":
                if arguments[0] is not None:
                    raise arguments[0]
                return
            if name != "wait":
                dist.gather_object(self._outcome(name, arguments), None, group=self._group)

    def _outcome(self, name: str, arguments: Sequence[Any]) -> tuple[Any, Exception | None]:
        """What a request returns here, or what fails. An error of another kind may not be able to travel."""
        try:
            return getattr(self, f"_{name}_here")(*arguments), None
        except SslxError as error:
            return None, error
        except Exception as error:
            return None, SslxError(f"{type(error).__name__}: {error}")

    def _encode_here(self, key: str, method: str, half: str, of: str) -> tuple[int, ...]:
        z = self._encode(method, half, of)
        self._features[key] = 0, z
        return tuple(z.shape)

    def _place_here(self, key: str, starts: Sequence[int], width: int) -> None:
        _, z = self._features[key]
        self._features[key] = starts[self.rank], z.reshape(len(z), width)

    def _each_here(self, key: str, positions: Tensor, keep: bool, act: Callable[..., Any], arguments: Any) -> Any:
        start, z = self._features[key]
        places = ((positions >= start) & (positions < start + len(z))).nonzero()[:, 0]
        self._kept = None  # before the next one needs its memory
        rows = positions[places] - start
        found = act(z if torch.equal(rows, torch.arange(len(z))) else z[rows], places, *arguments)
        if not keep:
            return found
        self._kept = found
        return None

    def _call_here(self, *arguments: Any) -> Any:
        assert self._kept is not None
        return self._kept(*arguments)


@attrs.frozen(eq=False)
class Parts:
    """Features (n, D) of which each process has some rows. In the main process, it stands for the tensor."""

    team: Team
    key: str
    positions: Tensor  # (n,) of the rows
    width: int

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.width

    def __getitem__(self, index: Tensor) -> Parts:
        return attrs.evolve(self, positions=self.positions[index])

    def each(self, act: Callable[..., T], *arguments: Any) -> list[T]:
        """What `act(rows, places, *arguments)` returns in each process, for its rows and their places among all n."""
        return self.team.ask("each", self.key, self.positions, False, act, arguments)

    def prepare(self, act: Callable[..., Callable[..., T]], *arguments: Any) -> Callable[..., list[T]]:
        """A function that calls in each process what `act` has returned there, until the next call of the team."""
        self.team.ask("each", self.key, self.positions, True, act, arguments)
        return lambda *given: self.team.ask("call", *given)

    def whole(self) -> Tensor:
        """All rows, in this process."""
        z = torch.empty(self.shape)
        for rows, places in self.each(_rows):
            z[places] = rows
        return z


def _rows(rows: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    return rows, places
