"""Everything that sslx raises on purpose.

SslxError
├── ConfigError (ValueError)
├── PluginError
├── DataError
├── CheckpointError
├── LockedError
├── NonFiniteError
└── Interrupted

`exit_code` is what the command line exits with.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

__all__ = ["CheckpointError", "ConfigError", "DataError", "NonFiniteError", "PluginError", "SslxError"]


class SslxError(Exception):
    """Whatever sslx raises on purpose."""

    exit_code = 1


class ConfigError(SslxError, ValueError):
    """Wrong input. `problems` holds one line each, so that all are reported together."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class Problems(list[str]):
    """Lines about mistakes, collected so that all of them are reported together."""

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Take the lines of a ConfigError or PluginError that is raised inside, instead of passing it on."""
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
    """A plugin or a component of one cannot be used."""

    exit_code = 2


class DataError(SslxError):
    """A dataset is missing, damaged or contradicts itself."""

    exit_code = 2


class CheckpointError(SslxError):
    """No checkpoint can be used, or one belongs to another run."""


class LockedError(SslxError):
    """Another process is writing to the run."""


class NonFiniteError(SslxError):
    """A loss or a gradient is not finite; nothing was updated."""


class Interrupted(SslxError):
    """The run was asked to stop, and can be resumed. Exit code 75 is EX_TEMPFAIL: try again."""

    exit_code = 75


def nearest(name: str, known: Iterable[str], everywhere: Iterable[str] | None = None) -> str:
    """`" (did you mean 'x'?)"` for the closest name of all that there are, or the list of those known here."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known if everywhere is None else sorted(everywhere), n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f"; there is {', '.join(known)}" if known else ""
