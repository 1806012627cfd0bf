"""Stop signals. The handler only sets a flag, which the engine reads between steps.

It is installed before torch is imported. Otherwise a signal during start-up would kill the process without a message.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGTERM", "SIGINT", "SIGUSR1")
_received: signal.Signals | None = None
_deferred = False


def _handle(number: int, frame: FrameType | None) -> None:
    global _received
    if _received is not None and number == signal.SIGINT:
        raise KeyboardInterrupt  # the second Ctrl-C stops at once
    _received = signal.Signals(number)


def install() -> None:
    """Make SIGTERM, SIGINT and SIGUSR1 request a stop at the next step boundary."""
    for name in _NAMES:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _handle)
    _mask("SIG_UNBLOCK")


def hold() -> None:
    """Keep stop signals from this thread, which is not the main one, and from a process it starts until `install`."""
    _mask("SIG_BLOCK")


def _mask(how: str) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(getattr(signal, how), [getattr(signal, name) for name in _NAMES])


@contextmanager
def heard() -> Iterator[None]:
    """`install` inside the context, where nobody did; for runs that a script starts in its main thread."""
    global _received
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is _handle:
        yield
        return
    before = {name: signal.getsignal(getattr(signal, name)) for name in _NAMES if hasattr(signal, name)}
    install()
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _handle:
            _received = None
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def stops(error: BaseException) -> bool:
    """Whether an exception is the user's second Ctrl-C, and no mistake of the plugin in whose code it arose."""
    return isinstance(error, KeyboardInterrupt) and _received is not None


@contextmanager
def deferred() -> Iterator[None]:
    """Inside the context, `received` says nothing of a signal, so that what is under way is completed."""
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False


def received() -> str:
    """Name of the signal that requested a stop, or an empty string."""
    return "" if _received is None or _deferred else _received.name
