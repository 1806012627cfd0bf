"""How several processes find each other, also after torchrun has started them again."""

import os
import re
import time
import uuid
from datetime import timedelta

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from sslx.core import signals
from sslx.core.errors import Interrupted, LostError

_POLL = 0.05  # seconds between two looks for the others


def join(backend: str, rank: int, world: int, limit: timedelta) -> None:
    """Make the process group of these processes. Raises LostError if the others do not come within the limit.

    Args:
        limit: the longest that a process waits for the others, now and in each operation of the group.
    """
    try:
        if file := os.environ.get("SSLX_RENDEZVOUS"):  # of `sslx --devices`
            dist.init_process_group(backend, f"file://{file}", limit, world, rank)
            return
        store, _, _ = next(rendezvous("env://", rank, world, timeout=limit))  # an address and a port
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            store = PrefixStore(_round(store, rank, world, limit), store)
        dist.init_process_group(backend, timeout=limit, world_size=world, rank=rank, store=store)
    except RuntimeError as error:
        reason = re.sub(r"^\[\S+\] ", "", str(error).partition("\n")[0])  # without a place in torch's code
        raise LostError(f"the processes of this launch did not all find each other: {reason}") from error


def _round(store: Store, rank: int, world: int, limit: timedelta) -> str:
    """A name that only the processes that are alive now have agreed on.

    torchrun's store outlives the processes that it starts again, and with it the addresses of those that are gone.
    Numbers of restarts differ between the agents of several machines. So process 0 proposes a name, the others answer
    with names of their own, and it confirms them: an answer of a process that is gone is none of theirs.
    """
    mine = uuid.uuid4().hex
    until = time.monotonic() + limit.total_seconds()
    if rank == 0:
        store.set("sslx-round", mine)
        answers = [f"{mine}-{other}" for other in range(1, world)]
        while not store.check(answers):
            _wait(until)
        store.set(mine, " ".join(store.get(answer).decode() for answer in answers))
        return mine
    while True:
        if store.check(["sslx-round"]):
            proposed = store.get("sslx-round").decode()  # perhaps still that of processes that are gone
            store.set(f"{proposed}-{rank}", mine)
            if store.check([proposed]) and mine in store.get(proposed).decode().split():
                return proposed
        _wait(until)


def _wait(until: float) -> None:
    if signals.received():  # torchrun ends those that wait for a process that it has lost
        raise Interrupted(f"stopped by {signals.received()} before the other processes of this launch came")
    if time.monotonic() > until:
        raise LostError("the other processes of this launch did not come within the limit")
    time.sleep(_POLL)
