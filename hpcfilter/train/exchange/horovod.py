"""Horovod as an engine: its ring-allreduce over MPI, or NCCL."""

import math
import os
import sys

from hpcfilter.base.errors import InputError
from hpcfilter.comm import check_beside
from hpcfilter.train.exchange.engine import Engine

BUILD = "build it with jobs/build_horovod.sh"


def started(comm, deterministic=False):
    """The module horovod.torch, started at the first use. deterministic: counts at the first use
    only. All ranks must call.

    Raises InputError on all ranks when it does not import, or was built for other ranks than
    those of this launch.
    """
    if (hvd := sys.modules.get("horovod.torch")) and hvd.is_initialized():
        return hvd
    if deterministic:
        # else what is summed in one message, and so in which order, depends on timing
        os.environ["HOROVOD_FUSION_THRESHOLD"] = "0"
    with comm.together():
        try:
            import horovod.torch as hvd
        except ImportError as error:
            raise InputError(f"exchange.engine: got horovod, which does not import ({error}); {BUILD}, "
                             'or take the engine "torch"') from None
    hvd.init()
    try:
        check_beside(comm, hvd)
    except InputError:
        hvd.shutdown()  # its thread would go on calling MPI
        raise
    comm.before_close(hvd.shutdown)
    return hvd


def horovod_facts():
    """What Horovod is built with. Returns {"mpi", "gloo", "nccl" (or RCCL), "cuda", "rocm": bool}. Raises
    what a broken Horovod raises."""
    import horovod.torch as hvd

    if not hasattr(hvd, "init"):  # Horovod has printed the reason
        raise ImportError("Horovod is built without torch, or for another one")
    return {name: bool(getattr(hvd, f"{name}_built")()) for name in ("mpi", "gloo", "nccl", "cuda", "rocm")}


class Horovod(Engine):
    """Needs ranks that MPI has brought together."""

    name = "horovod"

    def connect(self, model, optimizer, op, compression):
        hvd = started(self.comm, self.deterministic)
        compressor = {"none": hvd.Compression.none, "fp16": hvd.Compression.fp16}[compression]
        optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters(),
                                             op=hvd.Sum if op == "Adasum" else getattr(hvd, op),
                                             compression=compressor)
        # Asked for with op=, Horovod would step on each rank first, whose momentum no checkpoint could keep
        if op == "Adasum":
            optimizer.op = hvd.Adasum
        return optimizer

    def release(self, optimizer):
        # Horovod's hooks live as long as the nodes of the graph that are kept here; one that some other
        # graph keeps alive only counts, and begins no message
        optimizer.set_backward_passes_per_step(math.inf)
        optimizer._grad_accs.clear()

    def backward(self, loss, model):
        loss.backward()

    def finish(self, optimizer):
        optimizer.synchronize()

    def step(self, optimizer):
        with optimizer.skip_synchronize():
            optimizer.step()

    def broadcast(self, model):
        for parameter in model.parameters():
            parameter.data = parameter.data.contiguous()  # Horovod refuses other layouts
        started(self.comm, self.deterministic).broadcast_parameters(model.state_dict(), root_rank=0)

    def sum(self, tensor, name):
        hvd = started(self.comm, self.deterministic)
        return hvd.allreduce(tensor, name=name, op=hvd.Sum)

    def by_node(self, on_gpus):
        """Whether Adasum brings together nodes, the ranks of each of which are averaged before. on_gpus:
        whether the gradients are there, on all ranks. All ranks must call."""
        return on_gpus and bool(started(self.comm, self.deterministic).nccl_built())
