"""Being asked to stop. The handler only sets a flag; the engine looks at it between steps.

Installed before torch is imported, or a signal during start-up would kill the process without a word.
"""

from __future__ import annotations

import signal
from types import FrameType

_received: signal.Signals | None = None


def _handle(number: int, frame: FrameType | None) -> None:
    global _received
    if _received is not None and number == signal.SIGINT:
        raise KeyboardInterrupt  # the second Ctrl-C means now
    _received = signal.Signals(number)


def install() -> None:
    """From now on SIGTERM, SIGINT and SIGUSR1 ask for a stop at the next step boundary."""
    for name in ("SIGTERM", "SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _handle)


def received() -> str:
    """Name of the signal that asked for a stop, or an empty string."""
    return "" if _received is None else _received.name
