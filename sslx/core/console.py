"""What a person sees of a run: lines on standard error, said by one process and free of control characters."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sslx.core.errors import Interrupted, SslxError

__all__ = ["printable", "say"]

FORSAKEN = 3  # exit code of one of several processes that ends because it has lost another one


def is_main() -> bool:
    """Whether this is the one process that writes and prints."""
    return os.environ.get("RANK", "0") == "0"


def is_launched() -> bool:
    """Whether a launcher such as torchrun started this process."""
    return "RANK" in os.environ


def printable(text: str) -> str:
    """A text in which line breaks, escape sequences and broken characters, as names of files may have, are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def say(line: str) -> None:
    """Print a line on standard error, from the main process only. Lines of several threads do not mix."""
    if is_main():
        print(printable(line) + "\n", end="", file=sys.stderr, flush=True)


@contextmanager
def tolerant(what: str) -> Iterator[None]:
    """Say in one line what fails inside, and go on."""
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        say(f"{what}: {explain(error)}")


_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space, or choose another folder"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "`ulimit -n` raises the number of files that may be open"),
}
_MEMORY = ("allocate memory", "not enough memory", "out of memory", "Unable to allocate", "CUDA out of memory")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def explain(error: BaseException) -> str:
    """What went wrong, in one line, with what can be done about lack of disk, memory, descriptors and rights."""
    text = " ".join(str(error).split())
    if isinstance(error, SslxError):
        return text
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        advice = f"; {_ADVICE[error.errno]}" if error.errno in _ADVICE else ""
        return f"{where}{error.strerror}{advice}"
    if isinstance(error, MemoryError) or any(sign in text for sign in _MEMORY):
        return _memory(text)
    if error.__traceback__ is None:
        return f"{type(error).__name__}: {text}".removesuffix(": ")
    import traceback  # is slow to import

    at = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{'/'.join(at.filename.split(os.sep)[-3:])}:{at.lineno}"
    return f"{type(error).__name__}: {text}".removesuffix(": ") + f" ({where})"


def _memory(text: str) -> str:
    asked = re.search(r"([\d.]+) ?([KMGT]?)(?:iB|B| ?bytes)", text)
    wanted = f" for {float(asked[1]) * _UNITS[asked[2]] / 1e9:,.2f} GB" if asked else ""
    free = ""
    if "CUDA" not in text and hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        free = f"; {os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:,.2f} GB are free"
    return f"there is not enough memory{wanted}{free}; use a smaller batch, smaller networks or smaller images"
