"""Real ranks: numbers over mpi4py. This file and no other imports it.

mpi4py must be imported before torch (on some machines the other order fails), so `world()`
comes first in every verb.
"""

import numpy as np
from mpi4py import MPI

from hpcfilter.comm.base import Channel, Comm

_LENGTH, _DATA = 1, 2  # message tags


class MPIComm(Comm):
    """All ranks of this launch, on a duplicate of MPI_COMM_WORLD."""

    backend = "mpi"

    def __init__(self):
        self._mpi = MPI.COMM_WORLD.Dup()
        self.rank, self.size = self._mpi.Get_rank(), self._mpi.Get_size()
        node = self._mpi.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank, self.local_size = node.Get_rank(), node.Get_size()
        node.Free()

    def _reduce(self, array, op):
        array = np.asarray(array)
        result = np.empty_like(array)
        self._mpi.Allreduce(array, result, op=op)
        self.sent += array.nbytes
        return result

    def sum(self, array):
        return self._reduce(array, MPI.SUM)

    def max(self, array):
        return self._reduce(array, MPI.MAX)

    def min(self, array):
        return self._reduce(array, MPI.MIN)

    def exscan(self, value):
        mine = np.array(value, dtype=np.int64)
        before = np.zeros_like(mine)
        self._mpi.Exscan(mine, before, op=MPI.SUM)
        self.sent += mine.nbytes
        if self.rank == 0:
            before[...] = 0  # MPI leaves rank 0's result undefined
        return before if before.ndim else int(before)

    def allgather(self, array):
        array = np.ascontiguousarray(array)
        lengths = np.empty(self.size, dtype=np.int64)
        self._mpi.Allgather(np.array([array.nbytes], dtype=np.int64), lengths)
        flat = np.empty(int(lengths.sum()), dtype=np.uint8)
        self._mpi.Allgatherv(array.reshape(-1).view(np.uint8), [flat, lengths, _offsets(lengths), MPI.BYTE])
        self.sent += array.nbytes + lengths.itemsize
        return [piece.view(array.dtype).reshape(-1, *array.shape[1:]) for piece in _cut(flat, lengths)]

    def gather(self, array):
        array = np.ascontiguousarray(array)
        if self.rank == 0:
            return self._receive_in_order(array)
        self._mpi.Send(np.array([array.nbytes], dtype=np.int64), dest=0, tag=_LENGTH)
        self._mpi.Send([array.reshape(-1).view(np.uint8), MPI.BYTE], dest=0, tag=_DATA)
        self.sent += array.nbytes
        return iter([])

    def _receive_in_order(self, first):
        yield first
        for rank in range(1, self.size):
            length = np.empty(1, dtype=np.int64)
            self._mpi.Recv(length, source=rank, tag=_LENGTH)
            flat = np.empty(int(length[0]), dtype=np.uint8)
            self._mpi.Recv([flat, MPI.BYTE], source=rank, tag=_DATA)
            yield flat.view(first.dtype).reshape(-1, *first.shape[1:])

    def bcast(self, value, root=0):
        return self._mpi.bcast(value, root=root)

    def alltoallv(self, parts):
        parts = [np.ascontiguousarray(part) for part in parts]
        out = np.array([part.nbytes for part in parts], dtype=np.int64)
        back = np.empty_like(out)
        self._mpi.Alltoall(out, back)
        send = np.concatenate([part.reshape(-1).view(np.uint8) for part in parts])
        flat = np.empty(int(back.sum()), dtype=np.uint8)
        self._mpi.Alltoallv([send, out, _offsets(out), MPI.BYTE], [flat, back, _offsets(back), MPI.BYTE])
        self.sent += send.nbytes
        return [piece.view(parts[0].dtype).reshape(-1, *parts[0].shape[1:]) for piece in _cut(flat, back)]

    def barrier(self):
        self._mpi.Barrier()

    def channel(self):
        return MPIChannel(self._mpi.Dup()) if MPI.Query_thread() == MPI.THREAD_MULTIPLE else Channel()

    def abort(self, code):
        MPI.COMM_WORLD.Abort(code)

    def close(self):
        self._mpi.Barrier()  # nobody is left waiting for what ends now
        for action in self._last:
            action()
        self._mpi.Barrier()
        if not MPI.Is_finalized():
            MPI.Finalize()


class MPIChannel(Channel):
    """Messages on a communicator of their own, which another thread may use while the work waits in MPI."""

    def __init__(self, mpi):
        self._mpi, self._sent = mpi, []

    def post(self, text, rank):
        data = text.encode()
        self._sent = [(kept, request) for kept, request in self._sent if not request.Test()]
        # the bytes must stay until they are gone
        self._sent.append((data, self._mpi.Isend([data, MPI.BYTE], dest=rank)))

    def received(self):
        texts, status = {}, MPI.Status()
        while self._mpi.Iprobe(status=status):
            data = bytearray(status.Get_count(MPI.BYTE))
            self._mpi.Recv([data, MPI.BYTE], source=status.Get_source())
            texts[status.Get_source()] = data.decode()
        return texts


def _offsets(lengths):
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)


def _cut(flat, lengths):
    return np.split(flat, np.cumsum(lengths)[:-1])
