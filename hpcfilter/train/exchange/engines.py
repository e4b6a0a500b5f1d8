"""Which library carries the gradients of a run, and why: Horovod where it works on this launch, else
torch."""

import socket

import numpy as np

from hpcfilter.base.errors import InputError, on_all
from hpcfilter.base.spans import by_value
from hpcfilter.train.exchange.engine import Alone
from hpcfilter.train.exchange.horovod import BUILD, Horovod, horovod_facts, started

WAY_OUT = f"start it with a launcher of MPI and mpi4py, {BUILD}"
BACKENDS = {"cuda": "nccl", "xpu": "xccl", "cpu": "gloo"}  # of a device


def engine_of(table, comm, device, deterministic=False):
    """The engine of a run. table: train.schema.Exchange. device: torch.device of this rank. All ranks must
    call. Returns Engine. Raises InputError on all ranks for one that cannot carry their gradients."""
    if comm.size == 1:
        return Alone(comm)
    _check_devices(comm, device)
    if table.engine == "torch":
        return _torch(table, comm, device, deterministic, "exchange.engine asks for it")
    asked = table.engine == "horovod" or table.kind == "adasum"
    lacks = (_unwanted(table) or _missing(comm, device, asked) or _does_not_start(comm, deterministic))
    if not lacks:
        engine = Horovod(comm, deterministic)
        engine.why = "exchange asks for it" if asked else "it is built for the MPI of this launch"
        return engine
    if table.kind == "adasum":
        raise on_all(f'exchange.kind: got adasum, which Horovod alone has, but {lacks}; {WAY_OUT}, or take '
                     'the kind "allreduce"')
    if asked:
        raise on_all(f'exchange.engine: got horovod, but {lacks}; {WAY_OUT}, or take engine = "torch"')
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


def _check_devices(comm, device):
    """Raise InputError on all ranks when some compute on a GPU and others do not: their gradients cannot
    meet."""
    kinds = dict(enumerate(_texts(comm, device.type)))
    if len(set(kinds.values())) > 1:
        raise on_all(f"train.device: the ranks compute on different kinds of devices: {by_value(kinds)}; "
                     'give each a GPU that works (hpcfilter doctor says more), or train.device = "cpu"')


def _unwanted(table):
    """What the user asks for that Horovod has not, in words, or ""."""
    if table.model_extra.get("compression") == "bf16":
        return "exchange.compression = bf16 is torch's"
    return f"exchange.backend = {table.backend} is torch's" if table.backend != "auto" else ""


def _missing(comm, device, asked):
    """What Horovod lacks for the gradients of this launch, in words of the first rank that lacks it, or "".
    asked: whether the user asks for it, who may want it slow."""
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
            elif device.type == "xpu" or (device.type == "cuda" and not built["nccl"] and not asked):
                mine = f"it is built without the means to add up on {device.type}"
    return next(filter(None, _texts(comm, mine)), "")


def _does_not_start(comm, deterministic):
    """Why Horovod is not one with this launch, in words of the first rank that knows, or ""."""
    mine = ""
    try:
        started(comm, deterministic)
    except (InputError, RuntimeError) as error:
        mine = " ".join(str(error).split())[:300]
    return next(filter(None, _texts(comm, mine)), "")


def _torch(table, comm, device, deterministic, why):
    backend, because = _backend(table.backend, comm, device)
    from hpcfilter.train.exchange.distributed import Torch

    engine = Torch(comm, deterministic, backend, device)
    engine.why = why + because
    return engine


def _backend(wanted, comm, device):
    """(backend of torch.distributed for gradients on a device, what is to be said of it). wanted: of
    [exchange] backend. All ranks must call. Raises InputError on all of them for one that cannot be."""
    import torch
    import torch.distributed as dist

    backend, said = (BACKENDS[device.type], "") if wanted == "auto" else (wanted, "")
    if _shared(comm, device) and wanted == "auto" and backend != "gloo":
        backend, said = "gloo", "; gloo, since ranks share a GPU, which NCCL refuses"
    with comm.together():
        if not dist.is_available() or not dist.is_backend_available(backend):
            raise InputError(f"exchange.backend: {backend} is not in torch {torch.__version__}, for "
                             f"gradients on {device.type}; expected gloo, or another torch")
        if device.type == "cpu" and backend in ("nccl", "xccl"):
            raise InputError(f"exchange.backend: got {backend} for gradients on the CPU; expected gloo, "
                             "or a train.device with a GPU")
    return backend, said


def _shared(comm, device):
    """Whether any two ranks of a node take the same GPU. All ranks must call."""
    import torch

    about = torch.get_device_module(device).get_device_properties(device) if device.type != "cpu" else None
    number = str(getattr(about, "uuid", ""))
    known = [name for name in _texts(comm, number and f"{socket.gethostname()} {number}") if name]
    return len(set(known)) < len(known)


def _texts(comm, text):
    """What each rank says, in rank order. All ranks must call."""
    return [one.tobytes().decode() for one in comm.allgather(np.frombuffer(text.encode(), np.uint8))]
