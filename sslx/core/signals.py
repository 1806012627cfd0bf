"""Stop signals. The handler only sets a flag, which the engine reads between steps.

It is installed before torch is imported. Otherwise a signal during start-up would kill the process without a message.
"""

import signal
from types import FrameType

_received: signal.Signals | None = None


def _handle(number: int, frame: FrameType | None) -> None:
    global _received
    if _received is not None and number == signal.SIGINT:
        raise KeyboardInterrupt  # the second Ctrl-C stops at once
    _received = signal.Signals(number)


def install() -> None:
    """Make SIGTERM, SIGINT and SIGUSR1 request a stop at the next step boundary."""
    for name in ("SIGTERM", "SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _handle)


def received() -> str:
    """Name of the signal that requested a stop, or an empty string."""
    return "" if _received is None else _received.name
