"""Which library carries the gradients of a run, and why: Horovod where it works on this launch, else
torch."""

import numpy as np

from hpcfilter.base.errors import InputError, on_all
from hpcfilter.train.exchange.engine import Alone
from hpcfilter.train.exchange.horovod import BUILD, Horovod, horovod_facts, started

BACKENDS = {"cuda": "nccl", "xpu": "xccl", "cpu": "gloo"}  # of a device


def engine_of(table, comm, device, deterministic=False):
    """The engine of a run. table: train.schema.Exchange. device: torch.device of this rank. All ranks must
    call. Returns Engine. Raises InputError on all ranks for one that cannot carry their gradients."""
    if comm.size == 1:
        return Alone(comm)
    horovod_only = table.kind == "adasum"
    if table.engine == "torch":
        return _torch(table, comm, device, deterministic, "exchange.engine asks for it")
    lacks = _missing(comm, device, wanted=table.engine == "horovod" or horovod_only)
    if not lacks:
        lacks = _does_not_start(comm, deterministic)
    if not lacks:
        engine = Horovod(comm, deterministic)
        engine.why = ("exchange.engine asks for it" if table.engine == "horovod"
                      else "it is built for the MPI of this launch")
        return engine
    if table.engine == "horovod" or horovod_only:
        wanted = "exchange.kind: got adasum, which Horovod alone has" if horovod_only else (
            "exchange.engine: got horovod")
        raise on_all(f"{wanted}, but {lacks}; {BUILD}, or take "
                     + ('the kind "allreduce"' if horovod_only else 'engine = "torch"'))
    return _torch(table, comm, device, deterministic, f"not Horovod: {lacks}")


def check_engine(table):
    """Raise InputError for keys of [exchange] that do not go together. table: train.schema.Exchange."""
    if table.kind == "adasum" and table.engine == "torch":
        raise InputError('exchange.engine: got torch for kind = "adasum", which Horovod alone has; '
                         'expected "horovod", or kind = "allreduce"')
    if table.backend != "auto" and table.engine == "horovod":
        raise InputError(f"exchange.backend: got {table.backend}, which is torch's, for "
                         'engine = "horovod"; leave it out, or take engine = "torch"')
    if table.model_extra.get("compression") == "bf16" and table.engine == "horovod":
        raise InputError('exchange.compression: got bf16, which Horovod lacks; expected fp16, '
                         'or engine = "torch"')


def _missing(comm, device, wanted):
    """What Horovod lacks for the gradients of this launch, in words of the first rank that lacks it; "".
    wanted: whether the user asks for it, who may want it slow."""
    mine = ""
    if comm.backend != "mpi":
        mine = "the ranks of this launch have met without MPI"
    else:
        try:
            built = horovod_facts()
        except Exception as error:  # whatever a broken installation raises
            mine = f"it does not import ({' '.join(str(error).split())[:200]})"
        else:
            if not built["mpi"]:
                mine = "it is built without MPI"
            elif device.type == "xpu" or (device.type == "cuda" and not built["nccl"] and not wanted):
                mine = f"it is built without the means to add up on {device.type}"
    return _first(comm, mine)


def _does_not_start(comm, deterministic):
    """Why Horovod is not one with this launch, or ""."""
    try:
        started(comm, deterministic)
    except InputError as error:
        return str(error)
    return ""


def _torch(table, comm, device, deterministic, why):
    from hpcfilter.train.exchange.distributed import Torch

    backend, because = _backend(table.backend, comm, device)
    engine = Torch(comm, deterministic, backend, device)
    engine.why = why + because
    with comm.together():
        if (compression := table.model_extra.get("compression", "none")) not in engine.compressions:
            raise InputError(f"exchange.compression: got {compression!r}, expected one of "
                             f"{', '.join(engine.compressions)}")
    return engine


def _backend(wanted, comm, device):
    """(backend of torch.distributed for gradients on a device, what is to be said of it). wanted: of
    [exchange] backend. All ranks must call. Raises InputError on all of them for one that cannot be."""
    import torch
    import torch.distributed as dist

    backend, said = (BACKENDS[device.type], "") if wanted == "auto" else (wanted, "")
    if wanted == "auto" and backend != "gloo" and _shared(comm, device):
        backend, said = "gloo", "; gloo, since ranks of a node share a GPU, which NCCL refuses"
    with comm.together():
        if not dist.is_available() or not dist.is_backend_available(backend):
            raise InputError(f"exchange.backend: {backend} is not in torch {torch.__version__} for gradients "
                             f"on {device.type}; expected gloo, or another torch")
        if device.type == "cpu" and backend in ("nccl", "xccl"):
            raise InputError(f"exchange.backend: got {backend} for gradients on the CPU; expected gloo, "
                             "or a train.device with a GPU")
    return backend, said


def _shared(comm, device):
    """Whether any two ranks of a node take the same GPU. All ranks must call."""
    import torch

    about = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    mine = f"{getattr(about, 'uuid', '')}"
    names = [text.tobytes() for text in comm.allgather(np.frombuffer(mine.encode(), np.uint8))]
    known = [name for name in names if name]
    return len(set(known)) < len(known)


def _first(comm, text):
    """The first text of all ranks that is not empty, or "". All ranks must call."""
    texts = [one.tobytes().decode() for one in comm.allgather(np.frombuffer(text.encode(), np.uint8))]
    return next(filter(None, texts), "")
