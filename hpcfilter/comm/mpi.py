"""Real ranks: mpi4py for numbers and thresholds, Horovod for gradients. This file and no other imports them.

mpi4py must be imported before torch (on some machines the other order fails), so `world()` comes first in every verb.
"""

import os

import numpy as np
from mpi4py import MPI

from hpcfilter.base.errors import InputError, on_all
from hpcfilter.comm.base import Channel, SerialComm, check_adasum

_LENGTH, _DATA = 1, 2  # message tags


class MPIComm(SerialComm):
    """All ranks of this launch, on a duplicate of MPI_COMM_WORLD."""

    backend = "mpi"

    def __init__(self):
        self._mpi = MPI.COMM_WORLD.Dup()
        self.rank, self.size = self._mpi.Get_rank(), self._mpi.Get_size()
        node = self._mpi.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank, self.local_size = node.Get_rank(), node.Get_size()
        node.Free()
        self._hvd = None

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

    def horovod(self, deterministic=False):
        """Horovod, started at the first use. deterministic: as in `distribute`; counts at the first use only."""
        if self._hvd is None:
            if deterministic:
                os.environ["HOROVOD_FUSION_THRESHOLD"] = "0"  # else what is summed in one message, and so in which order, depends on timing
            with self.together():
                try:
                    import horovod.torch as hvd
                except ImportError as error:
                    raise InputError(f"comm: {self.size} ranks train with Horovod, which does not import ({error}); "
                                     "build it with jobs/build_horovod.sh, or train with one process") from None
            hvd.init()
            with self.together():
                if (hvd.rank(), hvd.size()) != (self.rank, self.size):
                    raise InputError(f"comm: Horovod says rank {hvd.rank()} of {hvd.size()}, MPI says {self.rank} of {self.size}; "
                                     "Horovod must be built with the MPI of this launch (HOROVOD_WITH_MPI=1)")
                if not hvd.mpi_threads_supported():
                    raise InputError("comm: this MPI runs without MPI_THREAD_MULTIPLE, which Horovod beside mpi4py needs")
            self._hvd = hvd
        return self._hvd

    def distribute(self, optimizer, model, deterministic=False, reduction="sum", compression="none"):
        hvd = self.horovod(deterministic)
        compressor = {"none": hvd.Compression.none, "fp16": hvd.Compression.fp16}[compression]
        op = {"sum": hvd.Sum, "average": hvd.Average, "adasum": hvd.Sum}[reduction]
        optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters(), op=op, compression=compressor)
        if reduction == "adasum":
            optimizer.op = hvd.Adasum  # asked for with op=, Horovod would step on each rank first, whose momentum no checkpoint could keep
        return optimizer

    def adasum_parts(self, on_gpus):
        nodes = on_gpus and bool(self.horovod().nccl_built())
        parts, what = (-(-self.size // self.local_size), "nodes") if nodes else (self.size, "ranks")
        if nodes and int(self.max(self.local_size)) != int(self.min(self.local_size)):
            raise on_all("train.reduction: adasum on GPUs needs as many ranks on every node")
        check_adasum(parts, what)
        return parts

    def finish_sums(self, optimizer):
        optimizer.synchronize()

    def step(self, optimizer):
        with optimizer.skip_synchronize():
            optimizer.step()

    def broadcast(self, model):
        for parameter in model.parameters():
            parameter.data = parameter.data.contiguous()  # Horovod refuses other layouts
        self.horovod().broadcast_parameters(model.state_dict(), root_rank=0)

    def sum_tensor(self, tensor, name):
        hvd = self.horovod()
        return hvd.allreduce(tensor, name=name, op=hvd.Sum)

    def average_buffers(self, model, share):
        kept = model.state_dict()
        for name, buffer in model.named_buffers():
            if name in kept and buffer.is_floating_point():
                buffer.copy_(self.sum_tensor(buffer * share, f"buffer.{name}"))
            elif name in kept:
                numbers = buffer.cpu().numpy().copy()
                self._mpi.Bcast(_bytes(numbers))
                buffer.copy_(buffer.new_tensor(numbers))

    def abort(self, code):
        MPI.COMM_WORLD.Abort(code)

    def close(self):
        if self._hvd is not None:
            self._hvd.shutdown()
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
        self._sent.append((data, self._mpi.Isend([data, MPI.BYTE], dest=rank)))  # the bytes must stay until they are gone

    def received(self):
        texts, status = {}, MPI.Status()
        while self._mpi.Iprobe(status=status):
            data = bytearray(status.Get_count(MPI.BYTE))
            self._mpi.Recv([data, MPI.BYTE], source=status.Get_source())
            texts[status.Get_source()] = data.decode()
        return texts


def _bytes(array):
    """The memory of a C-contiguous array as uint8 (n,)."""
    return array.reshape(-1).view(np.uint8)


def _offsets(lengths):
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)


def _cut(flat, lengths):
    return np.split(flat, np.cumsum(lengths)[:-1])
