"""Horovod, as the exchanges use it. One process needs none: nothing is to be agreed on, and
every sum is what it was."""

import math
import os
import sys

from hpcfilter.base.errors import InputError
from hpcfilter.comm import check_beside
from hpcfilter.train.exchange.exchange import Exchange


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
            raise InputError(f"comm: {comm.size} ranks train with Horovod, which does not import ({error}); "
                             "build it with jobs/build_horovod.sh, or train with one process") from None
    hvd.init()
    check_beside(comm, hvd)
    comm.before_close(hvd.shutdown)
    return hvd


def sum_tensor(comm, tensor, name):
    """Sum over the ranks, the way gradients are added up. tensor: floating-point, on any device.
    name: the same on all ranks.

    Returns a new tensor. All ranks must call.
    """
    if comm.size == 1:
        return tensor.clone()
    hvd = started(comm)
    return hvd.allreduce(tensor, name=name, op=hvd.Sum)


def horovod_facts():
    """What Horovod is built with. Returns {"mpi", "gloo", "nccl" (or RCCL), "cuda", "rocm": bool}. Raises
    what a broken Horovod raises."""
    import horovod.torch as hvd

    if not hasattr(hvd, "init"):  # Horovod has printed the reason
        raise ImportError("Horovod is built without torch, or for another one")
    return {name: bool(getattr(hvd, f"{name}_built")()) for name in ("mpi", "gloo", "nccl", "cuda", "rocm")}


class OnHorovod(Exchange):
    """What all exchanges on Horovod share."""

    compression = "none"

    def _distributed(self, model, optimizer, op):
        """The optimizer with Horovod's hooks. op: name of Horovod's reduction."""
        hvd = started(self.comm, self.deterministic)
        compressor = {"none": hvd.Compression.none, "fp16": hvd.Compression.fp16}[self.compression]
        return hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters(),
                                        op=getattr(hvd, op), compression=compressor)

    def release(self, optimizer):
        if self.comm.size > 1:
            # Horovod's hooks live as long as the nodes of the graph that are kept here; one that some other
            # graph keeps alive only counts, and begins no message
            optimizer.set_backward_passes_per_step(math.inf)
            optimizer._grad_accs.clear()

    def broadcast(self, model):
        if self.comm.size == 1:
            return
        for parameter in model.parameters():
            parameter.data = parameter.data.contiguous()  # Horovod refuses other layouts
        started(self.comm).broadcast_parameters(model.state_dict(), root_rank=0)

    def finish(self, optimizer):
        if self.comm.size > 1:
            optimizer.synchronize()

    def step(self, optimizer):
        if self.comm.size == 1:
            optimizer.step()
            return
        with optimizer.skip_synchronize():
            optimizer.step()

    def settle(self, model, share):
        if self.comm.size == 1:
            return
        kept = model.state_dict()
        for name, buffer in model.named_buffers():
            if name in kept and buffer.is_floating_point():
                buffer.copy_(sum_tensor(self.comm, buffer * share, f"buffer.{name}"))
            elif name in kept:
                buffer.copy_(buffer.new_tensor(self.comm.bcast(buffer.cpu().numpy())))

    def bytes(self, model):
        halved = 2 if self.compression == "fp16" else 1
        return sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad) // halved
