"""Numbers over torch.distributed, with or without MPI: the ranks of a DistributedDataParallel script, or
those of a launch that have no other way to meet."""

import os
import socket
import sys

import numpy as np
import torch
import torch.distributed as dist

from hpcfilter.comm.base import Channel, Comm
from hpcfilter.comm.mail import MailChannel
from hpcfilter.comm.rendezvous import FOREVER, meet_by_environment


class TorchComm(Comm):
    """The ranks of torch.distributed, on a gloo group of its own, since the numbers live on the host
    whatever the gradients use.

    group: a process group, such as that of the data-parallel ranks where a network is spread over
    several; default all ranks.
    """

    backend = "torch"

    def __init__(self, group=None):
        self._world = (dist.get_process_group_ranks(group) if group is not None
                       else list(range(dist.get_world_size())))
        self._group = dist.new_group(self._world, backend="gloo", timeout=FOREVER,
                                     use_local_synchronization=group is not None)
        self.rank, self.size = dist.get_rank(self._group), dist.get_world_size(self._group)
        self.local_rank, self.local_size = self._on_this_node(whole=group is None)

    def _on_this_node(self, whole):
        """(local rank, ranks of this node): what torchrun says of all ranks, else by the hosts' names."""
        if whole and "LOCAL_RANK" in os.environ and "LOCAL_WORLD_SIZE" in os.environ:
            return int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        names = [name.tobytes() for name in self.allgather(np.frombuffer(socket.gethostname().encode(),
                                                                         np.uint8))]
        own = [rank for rank, name in enumerate(names) if name == names[self.rank]]
        return own.index(self.rank), len(own)

    def _reduce(self, array, op):
        array = np.array(array, order="C")  # reduced in place
        signed = array.view(np.int64) if array.dtype == np.uint64 else array  # sums are the same modulo 2^64
        dist.all_reduce(torch.from_numpy(signed.reshape(-1)), op=op, group=self._group)
        self.sent += array.nbytes
        return array

    def sum(self, array):
        return self._reduce(array, dist.ReduceOp.SUM)

    def max(self, array):
        return self._reduce(array, dist.ReduceOp.MAX)

    def min(self, array):
        return self._reduce(array, dist.ReduceOp.MIN)

    def exscan(self, value):
        before = sum(self.allgather(np.array(value, np.int64)[None])[: self.rank],
                     np.zeros((1, *np.shape(value)), np.int64))[0]
        return before if np.ndim(value) else int(before)

    def allgather(self, array):
        array = np.ascontiguousarray(array)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([array.nbytes]), group=self._group)
        own = torch.zeros(max(1, *map(int, lengths)), dtype=torch.uint8)  # gloo gathers equal lengths only
        own[: array.nbytes] = _bytes(array)
        pieces = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(pieces, own, group=self._group)
        self.sent += array.nbytes + 8
        return [_array(piece[: int(length)], array) for piece, length in zip(pieces, lengths, strict=True)]

    def gather(self, array):
        array = np.ascontiguousarray(array)
        if self.rank == 0:
            return self._receive_in_order(array)
        dist.send(torch.tensor([array.nbytes]), dst=self._world[0], group=self._group)
        dist.send(_bytes(array), dst=self._world[0], group=self._group)
        self.sent += array.nbytes
        return iter([])

    def _receive_in_order(self, first):
        yield first
        for rank in range(1, self.size):
            length = torch.zeros(1, dtype=torch.int64)
            dist.recv(length, src=self._world[rank], group=self._group)
            flat = torch.empty(int(length), dtype=torch.uint8)
            dist.recv(flat, src=self._world[rank], group=self._group)
            yield _array(flat, first)

    def bcast(self, value, root=0):
        holder = [value]
        dist.broadcast_object_list(holder, src=self._world[root], group=self._group)
        return holder[0]

    def alltoallv(self, parts):
        parts = [np.ascontiguousarray(part) for part in parts]
        out = torch.tensor([part.nbytes for part in parts])
        back = torch.empty_like(out)
        dist.all_to_all_single(back, out, group=self._group)
        send = torch.cat([_bytes(part) for part in parts])
        flat = torch.empty(int(back.sum()), dtype=torch.uint8)
        dist.all_to_all_single(flat, send, back.tolist(), out.tolist(), group=self._group)
        self.sent += send.numel()
        return [_array(piece, parts[0]) for piece in flat.split(back.tolist())]

    def barrier(self):
        dist.barrier(group=self._group)

    def channel(self):
        return Channel()

    def abort(self, code):
        raise SystemExit(code)  # the script's own launcher ends the others

    def close(self):
        """The process group is the script's own, and stays."""


class LaunchedComm(TorchComm):
    """All ranks of this launch, which meet at MASTER_ADDR and MASTER_PORT. here: launcher.Placement.
    Raises InputError when they do not."""

    def __init__(self, here):
        meet_by_environment(here)
        super().__init__()
        self._channels = 0  # so far

    def channel(self):
        self._channels += 1
        return MailChannel(self.rank, self._channels)

    def abort(self, code):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # every launcher ends the others when one fails

    def close(self):
        self.barrier()  # nobody is left waiting for what ends now
        for action in self._last:
            action()
        dist.destroy_process_group()


def _bytes(array):
    return torch.from_numpy(array.reshape(-1).view(np.uint8).copy())


def _array(flat, like):
    return flat.numpy().copy().view(like.dtype).reshape(-1, *like.shape[1:])
