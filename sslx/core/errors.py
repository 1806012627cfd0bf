"""Everything that sslx raises on purpose.

SslxError                     any of the below; `exit_code` is what the command line exits with
├── ConfigError (ValueError)  an option, a name or a file that a user gave is wrong: one line per problem
├── PluginError               a plugin or a component of one cannot be used
├── DataError                 a dataset is missing, damaged or contradicts itself
├── CheckpointError           no checkpoint can be used, or one belongs to another run
├── LockedError               another process is writing to the run
├── NonFiniteError            a loss or a gradient is not finite; nothing was updated
└── Interrupted               the run was asked to stop, saved its state and can be resumed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class SslxError(Exception):
    exit_code = 1


class ConfigError(SslxError, ValueError):
    """Wrong input. `problems` holds one line each, so that all are reported together."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class PluginError(SslxError):
    exit_code = 2


class DataError(SslxError):
    exit_code = 2


class CheckpointError(SslxError):
    pass


class LockedError(SslxError):
    pass


class NonFiniteError(SslxError):
    pass


class Interrupted(SslxError):
    """Exit code 75 is EX_TEMPFAIL: try again."""

    exit_code = 75


def nearest(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the closest known name, or the list of them if it is short."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f"; there is {', '.join(known)}" if known else ""
