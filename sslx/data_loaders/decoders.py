"""The threads that decode images."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor


@functools.cache
def decoders() -> ThreadPoolExecutor:
    """Threads that decode. The same ones always: new ones for each batch would leave memory behind, each its own."""
    return ThreadPoolExecutor(os.cpu_count(), "sslx-decoders")


os.register_at_fork(after_in_child=decoders.cache_clear)  # threads do not survive a fork
