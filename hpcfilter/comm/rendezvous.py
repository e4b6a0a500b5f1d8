"""How ranks meet in torch.distributed: where, for how long they wait, and over which network card."""

import os
import socket
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist

from hpcfilter.base.errors import InputError
from hpcfilter.comm.launcher import MEETING

LOOPBACK = "127.0.0.1"
WAIT = "HPCFILTER_MEET_SECONDS"  # how long a rank waits for the others at the start
# Whoever waits longer for another rank is ended by the watchdog, which knows who is busy and who is stuck
FOREVER = timedelta(days=30)


def patience():
    """How long a rank waits for the others at the start. Returns timedelta. Raises InputError for a
    HPCFILTER_MEET_SECONDS that is no number."""
    text = os.environ.get(WAIT, "120")
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        raise InputError(f"{WAIT}: got '{text}', expected seconds, such as 120") from None


def meet_by_environment(here):
    """Bring together the ranks of a launch at MASTER_ADDR and MASTER_PORT. here: launcher.Placement. All
    ranks must call. Raises InputError when they do not meet."""
    where = [os.environ.get(name, "") for name in MEETING]
    if not all(where):
        missing = ", ".join(name for name, value in zip(MEETING, where, strict=True) if not value)
        raise InputError(f"comm: {missing}: missing; {here.size} ranks without mpi4py meet at "
                         "MASTER_ADDR:MASTER_PORT: export the host of rank 0 and a free port "
                         "(hpcfilter's job scripts do), or install mpi4py")
    if not where[1].isdecimal():
        raise InputError(f"comm: MASTER_PORT: got '{where[1]}', expected the number of a free port")
    os.environ |= {"RANK": str(here.rank), "WORLD_SIZE": str(here.size)}  # which torch reads
    _choose_card(os.environ.get("LOCAL_WORLD_SIZE") == str(here.size) or where[0] in (LOOPBACK, "localhost"))
    _meet(f"{where[0]}:{where[1]}", here.size, init_method="env://")


def meet_by(comm):
    """Bring together in torch.distributed the ranks of a communicator that have met otherwise; nothing to do
    where they have met there. All ranks must call. Raises InputError on all of them when they do not."""
    if dist.is_initialized():
        return
    one_node = comm.min(comm.local_size) == comm.size
    _choose_card(one_node)
    host, store = LOOPBACK if one_node else socket.gethostname(), None
    with comm.together():
        if comm.rank == 0:
            store = _store(host, 0, comm)
    host, port = comm.bcast((host, store and store.port))
    with comm.together():
        store = store or _store(host, port, comm)
    with comm.together():
        _meet(f"{host}:{port}", comm.size, store=store, rank=comm.rank, world_size=comm.size)


def _store(host, port, comm):
    """The store through which ranks meet; rank 0 holds it, at any free port for 0."""
    with _in_time(f"{host}:{port}", comm.size):
        return dist.TCPStore(host, port, comm.size, comm.rank == 0, patience(), wait_for_workers=False)


def _meet(where, size, **how):
    with _in_time(where, size):
        dist.init_process_group("gloo", timeout=patience(), **how)


@contextmanager
def _in_time(where, size):
    """Raise InputError when the ranks do not come to a place. size: how many there should be."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # torch.distributed's own are RuntimeErrors
        raise InputError(f"comm: {size} ranks do not meet at {where} within {patience().total_seconds():g} s "
                         f"({WAIT}): {' '.join(str(error).split())[:200]}; is every one of them started, and "
                         "the port free?") from None


def _choose_card(one_node):
    """gloo asks for the address of the host's name, which may be that of a slow network or of none. On one
    node the loopback does; else the card that NCCL is to take, of which gloo wants the whole name."""
    if "GLOO_SOCKET_IFNAME" in os.environ:
        return
    cards = [name for _, name in socket.if_nameindex()]
    wanted = "lo" if one_node else os.environ.get("NCCL_SOCKET_IFNAME", "").split(",")[0]
    found = [name for name in cards if wanted and name.startswith(wanted)]
    if found:
        os.environ["GLOO_SOCKET_IFNAME"] = found[0]
