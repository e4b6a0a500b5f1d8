"""What a communicator can do. SerialComm is the whole of it for one process."""

import traceback
from contextlib import contextmanager

import numpy as np

from hpcfilter.base.errors import OwnCode, Refusal, on_all


def check_adasum(parts, what):
    """Raise InputError, as one of all ranks, for a number of gradients that Adasum cannot bring together. what: they are of, "ranks" or "nodes"."""
    if parts & (parts - 1):
        raise on_all(f"train.reduction: adasum goes in pairs of pairs and needs 1, 2, 4, 8, ... {what}, got {parts}")


class SerialComm:
    """One process: every sum is what it was. The other communicators override the collectives.

    rank, size: position among all ranks. local_rank, local_size: position among the ranks of this node.
    sent: bytes of payload that this rank has handed to collectives so far.
    """

    rank, size, local_rank, local_size = 0, 1, 0, 1
    backend = "serial"
    sent = 0

    def sum(self, array):
        """Elementwise sum over the ranks. array: numpy array or number. Returns a new array of the same shape and type."""
        return np.array(array)

    def max(self, array):
        """Elementwise maximum over the ranks."""
        return np.array(array)

    def min(self, array):
        """Elementwise minimum over the ranks."""
        return np.array(array)

    def exscan(self, value):
        """Sum over the ranks before this one; 0 on rank 0. value: int, or int64 array (elementwise). Returns the same shape."""
        return 0 * value

    def allgather(self, array):
        """Every rank's array (first axis may differ in length), in rank order, on every rank. Returns a list."""
        return [np.asarray(array)]

    def gather(self, array):
        """On rank 0 an iterator over every rank's array in rank order, one in memory at a time; elsewhere an empty one.

        Rank 0 must run it to its end.
        """
        return iter([np.asarray(array)])

    def bcast(self, value, root=0):
        """`value` of rank `root`, a small Python object, on every rank."""
        return value

    def alltoallv(self, parts):
        """Send parts[r] to rank r. parts: one array per rank, equal type. Returns what each rank sent here, in rank order."""
        return [np.array(parts[0])]

    def barrier(self):
        """Wait for all ranks."""

    def channel(self):
        """A line of its own between the ranks, for a thread beside the work. All ranks must call. Returns Channel."""
        return Channel()

    @contextmanager
    def together(self):
        """A refusal on any rank (bad input, a full disk) is one of all: the first rank's is raised everywhere, no rank hangs.

        All ranks must enter the block; nothing inside it may communicate.
        """
        error = None
        try:
            yield
        except Refusal as caught:
            error = type(caught), str(caught), caught.trace or "".join(traceback.format_exception(caught))
        first = int(self.min(self.size if error is None else self.rank))
        if first < self.size:
            some = int(self.sum(int(error is not None))) < self.size
            kind, text, trace = self.bcast(error, root=first)
            shared = kind(f"rank {first} of {self.size} failed: {text}" if some and kind is OwnCode else text)
            shared.shared, shared.trace = True, trace
            raise shared

    def on_first(self, action):
        """Run `action` on rank 0 alone and give its result (a small Python object) to all; its refusal too."""
        result = None
        with self.together():
            if self.rank == 0:
                result = action()
        return self.bcast(result)

    # What follows is for training; the tensors are torch's.

    def distribute(self, optimizer, model, deterministic=False, reduction="sum", compression="none"):
        """Make `optimizer.step()` add up the gradients of all ranks first. Returns the optimizer to use.

        deterministic: always in the same order, so that the sums are the same bits in every run on as many ranks. reduction: "sum", "average" or
        "adasum", which brings gradients that agree together like an average, and those that do not like a sum (Maleki et al., arXiv 2006.02924,
        equation 3). compression: "fp16" sends them as float16.
        """
        return optimizer

    def adasum_parts(self, on_gpus):
        """How many gradients Adasum brings together: those of the ranks; on GPUs with NCCL those of the nodes, each the mean of its ranks.
        All ranks must call. Raises InputError on all ranks for a number that Adasum cannot do."""
        return 1

    def finish_sums(self, optimizer):
        """Wait until the gradients of all ranks are added up, which has begun during the backward pass. optimizer: of `distribute`."""

    def step(self, optimizer):
        """`optimizer.step()` after `finish_sums`."""
        optimizer.step()

    def broadcast(self, model):
        """Give rank 0's parameters and buffers to all ranks, in place."""

    def sum_tensor(self, tensor, name):
        """Sum over the ranks, the way gradients are added up. tensor: floating-point, on any device. name: the same on all ranks.

        Returns a new tensor.
        """
        return tensor.clone()

    def average_buffers(self, model, share):
        """Make the buffers that a state dict holds equal on all ranks, in place: the mean of floating-point ones (the statistics of BatchNorm),
        rank 0's of others. share: this rank's weight, of 1 in all."""

    def abort(self, code):
        """End all ranks at once with an exit code, for errors that only this rank knows of."""
        raise SystemExit(code)

    def close(self):
        """Leave the communicator, so that a process may then exit with any code without being taken for a crash."""


class Channel:
    """Short words from rank to rank that nobody waits for. This one says nothing: with one process there is nobody to talk to."""

    def post(self, text, rank):
        """Send a text to a rank; does not wait for it."""

    def received(self):
        """What has arrived since the last call, the last word of each rank. Returns rank -> text."""
        return {}
