"""What a rank finds around itself: facts that JSON can hold, without judgement. What is missing or
broken is a fact, too."""

import glob
import json
import os
import re
import socket
import sys
import time

import numpy as np

from hpcfilter.base.alive import notice, pulse
from hpcfilter.comm.facts import mpi_facts
from hpcfilter.comm.launcher import LAUNCHERS, MEETING, TORCHRUN, by_torchrun, launchers
from hpcfilter.record.provenance import versions
from hpcfilter.train.exchange.horovod import horovod_facts

# never all: the environment holds secrets
SHOWN = re.compile(r"(HOROVOD|NCCL|RCCL|GLOO|FI|OMP|HDF5|MPICH|ROCR|HPCFILTER|CCL|ZE)_|(CUDA|HIP)_VISIBLE")
SECRET = re.compile(r"SECRET|TOKEN|PASSW|KEY")


def own_facts(comm, folder):
    """What this rank finds. comm: tells the local rank. folder: where HDF5 is tried, by the
    first rank of each node.

    Returns name -> what the function of that name below finds, or {"error": text} for a
    library that cannot be used.
    """
    host = socket.gethostname()
    return {
        "host": host,
        "python": sys.executable,
        "versions": versions(),
        "cores": sorted(os.sched_getaffinity(0)),
        "machine_cores": os.cpu_count(),
        "memory": memory(),
        "environment": environment(os.environ),
        "now": time.time(),
        "deadline": attempt(notice.deadline),
        "mpi": mpi_facts(),
        "torch": attempt(torch_facts, comm.local_rank),
        "gpu_files": len(glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/kfd")),
        "horovod": attempt(horovod_facts),
        "hdf5": attempt(hdf5),
        "folder": attempt(try_folder, folder, f".hpcfilter-doctor-{host}-{os.getpid()}")
        if comm.local_rank == 0 else None,
    }


def gather(comm, found):
    """The facts of all ranks, in rank order, on rank 0; elsewhere an empty list. What is equal on
    many ranks is held once."""
    known, ranks = {}, []
    for text in comm.gather(np.frombuffer(json.dumps(found).encode(), np.uint8)):
        facts = json.loads(text.tobytes())
        ranks.append({name: known.setdefault(json.dumps(fact), fact) for name, fact in facts.items()})
        pulse.beat()
    return ranks


def attempt(look, *arguments):
    """What `look` finds, or {"error": text}: whatever a broken installation raises is what
    the user is to know."""
    try:
        return look(*arguments)
    except Exception as error:
        return {"error": " ".join(str(error).split()) or type(error).__name__}
    finally:
        pulse.beat()


def launcher(environ=os.environ):
    """The launcher that counts, and what the launchers say. Returns {"name": str,
    "variables": name -> text}."""
    names = [name for one in (*LAUNCHERS, TORCHRUN) for name in (one.rank, one.size, *one.local_ranks)]
    found = launchers(environ, (TORCHRUN,)) if by_torchrun(environ) else launchers(environ)
    return {"name": found[0][0].name if found else "none",
            "variables": {name: environ[name] for name in ["PMIX_RANK", *names, *MEETING] if name in environ}}


def environment(environ):
    """The variables that steer the libraries. Returns name -> text."""
    return {name: environ[name] for name in sorted(environ) if SHOWN.match(name) and not SECRET.search(name)}


def memory():
    """The bytes of memory of this node, or None where /proc does not say."""
    try:
        with open("/proc/meminfo") as file:
            return int(next(line.split()[1] for line in file if line.startswith("MemTotal:"))) * 1024
    except (OSError, StopIteration):
        return None


def torch_facts(local_rank):
    """Returns {"build": "CPU" or such as "CUDA 12.8", "gpus": how many this rank sees, "device": that it
    takes, "backends": of torch.distributed}; with a GPU also its "index", "name" and "uuid", and what `apart`
    finds."""
    import torch
    import torch.distributed as dist

    build = (f"CUDA {torch.version.cuda}" if torch.version.cuda
             else f"ROCm {torch.version.hip}" if torch.version.hip
             else f"XPU {torch.version.xpu}" if getattr(torch.version, "xpu", None) else "CPU")
    backends = [name for name in ("nccl", "xccl", "gloo", "mpi")
                if dist.is_available() and dist.is_backend_available(name)]
    modules = {kind: torch.get_device_module(kind) for kind in ("cuda", "xpu")}  # as a run looks for them
    kind = next((kind for kind, module in modules.items() if module.is_available()), None)
    gpus = modules[kind].device_count() if kind else 0
    if not gpus:
        return {"build": build, "gpus": 0, "device": "cpu", "backends": backends}
    index = local_rank % gpus  # as a run takes it
    modules[kind].set_device(index)  # before the driver is asked: nothing is left on a GPU of others
    about = modules[kind].get_device_properties(index)
    return {"build": build, "gpus": gpus, "device": f"{kind}:{index}", "backends": backends, "index": index,
            "name": about.name, "uuid": str(getattr(about, "uuid", "")),
            "apart": apart(gpus) if kind == "cuda" else []}


def apart(gpus):
    """The pairs [i, j], i < j, of the GPUs that this rank sees of which one cannot read the other's
    memory."""
    import torch

    return [[one, other] for one in range(gpus) for other in range(one + 1, gpus)
            if not (torch.cuda.can_device_access_peer(one, other)
                    and torch.cuda.can_device_access_peer(other, one))]


def hdf5():
    """Returns {"version": str, "mpi": bool}."""
    from hpcfilter.data.trial import hdf5_build

    return hdf5_build()


def try_folder(folder, name):
    """Returns {"path": str, "free": bytes or None, "write": why HDF5 cannot write there,
    "lock": why it cannot lock}."""
    from hpcfilter.data import trial

    return {"path": os.path.abspath(folder), **trial.try_folder(folder, name)}
