"""The exceptions that sslx raises on purpose.

SslxError
├── ConfigError (ValueError)
├── PluginError
├── DataError
├── CheckpointError
├── LockedError
├── NonFiniteError
├── LostError
├── Pruned
└── Interrupted

`exit_code` is the exit code of the command line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

__all__ = ["CheckpointError", "ConfigError", "DataError", "NonFiniteError", "PluginError", "SslxError"]


class SslxError(Exception):
    """Base class of the exceptions that sslx raises on purpose."""

    exit_code = 1


class ConfigError(SslxError, ValueError):
    """The input is wrong. `problems` has one line for each mistake, so that all are reported together."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class Problems(list[str]):
    """Mistakes, one line each, collected so that all of them are reported together."""

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect the lines of a ConfigError or PluginError that is raised inside, instead of raising it."""
        try:
            yield
        except ConfigError as error:
            self.extend(line for line in error.problems if line not in self)
        except PluginError as error:
            self.append(str(error))

    def check(self) -> None:
        """Raise ConfigError with all lines, if there are any."""
        if self:
            raise ConfigError(self)


class PluginError(SslxError):
    """A plugin, or one of its components, cannot be used."""

    exit_code = 2


class DataError(SslxError):
    """A dataset is missing, damaged or inconsistent."""

    exit_code = 2


class CheckpointError(SslxError):
    """A file of a run is damaged, or a checkpoint belongs to another run."""


class LockedError(SslxError):
    """Another process is writing to the run."""


class NonFiniteError(SslxError):
    """A loss or a gradient is not finite. Nothing was updated."""


class LostError(SslxError):
    """Another process of the run is gone. The run can be resumed."""


class Pruned(SslxError):
    """A search has given up the run, whose scores are worse than those of other runs. It can be resumed."""


class Interrupted(SslxError):
    """The run was stopped by a signal and can be resumed. Exit code 75 is EX_TEMPFAIL: try again."""

    exit_code = 75


_LISTED = 60  # most names in an error


def nearest(name: str, known: Iterable[str], everywhere: Iterable[str] | None = None) -> str:
    """`" (did you mean 'x'?)"` for the closest name in `everywhere` or `known`; otherwise `known`, if it is short."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known if everywhere is None else sorted(everywhere), n=1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f"; choose from {', '.join(known)}" if 0 < len(known) <= _LISTED else ""
