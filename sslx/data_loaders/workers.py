"""Pools of threads that last as long as the process."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor


@functools.cache
def workers(purpose: str, threads: int) -> ThreadPoolExecutor:
    """A pool of threads, the same one at every call: new threads for each batch would leave memory behind."""
    return ThreadPoolExecutor(threads, f"sslx-{purpose}")


os.register_at_fork(after_in_child=workers.cache_clear)  # threads do not survive a fork
