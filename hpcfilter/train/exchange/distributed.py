"""torch.distributed as an engine: the buckets of DistributedDataParallel, over NCCL, RCCL, XCCL or gloo."""

import os
import sys
import tempfile
from contextlib import contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from hpcfilter.comm.rendezvous import FOREVER, meet_by
from hpcfilter.train.exchange.compress import SixteenBits
from hpcfilter.train.exchange.engine import Engine


class Torch(Engine):
    """Works wherever torch does. Its sums are means, in buckets that are the same in every step of every run,
    and so has a sum the same order on as many ranks. backend: of torch.distributed. device: of the run."""

    name = "torch"
    means = True

    def __init__(self, comm, deterministic, backend, device):
        super().__init__(comm, deterministic)
        self.backend, self._device = backend, device
        self._group = self._carrier = None
        self._begun = False  # whether this step has begun its messages
        self._warned = False  # whether torch has had its chance to warn

    @property
    def group(self):
        """The process group of the gradients, made at the first use. All ranks must call."""
        if self._group is None:
            if not dist.is_initialized():
                meet_by(self.comm)
                self.comm.before_close(dist.destroy_process_group)
            self._group = dist.new_group(backend=self.backend, timeout=FOREVER)
        return self._group

    @property
    def over(self):
        card = os.environ.get("GLOO_SOCKET_IFNAME") if self.backend == "gloo" else None
        return f"over {self.backend}" + (f" on {card}" if card else "")

    def connect(self, model, optimizer, op, compression):
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # Parameters that a step does without are looked for: a rank that waited for them would hang. That
        # also keeps the buckets as they are: else the first step had others, and a resumed run other sums.
        self._carrier = DistributedDataParallel(Carrier(trained), process_group=self.group, init_sync=False,
                                                gradient_as_bucket_view=True, find_unused_parameters=True)
        if compression != "none":
            self._carrier.register_comm_hook(None, SixteenBits(self.group, compression).send)
        return optimizer

    def release(self, optimizer):
        self._carrier = None  # its hooks go with it

    def backward(self, loss, model):
        self._pass(loss + self._carrier.module.nothing(have_one=True))  # the gradients of earlier parts count

    def finish(self, optimizer):
        if not self._begun:  # a rank without samples adds nothing
            self._pass(self._carrier.module.nothing())
        self._begun = False
        for parameter in self._carrier.module.trained:
            if parameter.grad is None:  # no rank has used it; Horovod gives it zeros as well
                parameter.grad = torch.zeros_like(parameter)

    def _pass(self, loss):
        with nullcontext() if self._warned else without("find_unused_parameters=True was specified"):
            loss = self._carrier(loss)
        self._begun = self._warned = True
        loss.backward()

    def step(self, optimizer):
        optimizer.step()

    def broadcast(self, model):
        for tensor in model.state_dict().values():
            there = tensor.to(self._device).contiguous()
            if there.numel():  # as bytes: no library knows all types
                dist.broadcast(there.reshape(-1).view(torch.uint8), src=0, group=self.group)
            tensor.copy_(there)

    def sum(self, tensor, name):
        total = tensor.to(self._device).contiguous().clone()
        dist.all_reduce(total, group=self.group)
        return total


class Carrier(torch.nn.Module):
    """What DistributedDataParallel is put around: a loss goes through, and its backward pass finds the hooks.
    The forward pass that has made it is not its business. trained: list of Parameter."""

    def __init__(self, trained):
        super().__init__()
        self.trained = torch.nn.ParameterList(trained)

    def forward(self, loss):
        return loss

    def nothing(self, have_one=False):
        """A loss of 0 on which parameters depend, with gradients of 0 whatever their values: all, or those
        that have a gradient."""
        return sum(parameter.reshape(-1)[:0].sum() for parameter in self.trained
                   if parameter.grad is not None or not have_one)


@contextmanager
def without(text):
    """Leave lines with a text out of what this process prints on its error output meanwhile: torch warns of
    what is meant, past Python's own warnings."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        before = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            kept.seek(0)
            os.write(2, b"".join(line for line in kept if text.encode() not in line))
