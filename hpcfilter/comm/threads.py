"""Threads that play ranks: the whole distributed logic in one process, without MPI.

It proves logic, not MPI's progress. A collective that the ranks do not agree on is an error that names who
called what, where MPI would hang.
"""

import threading

import numpy as np

from hpcfilter.base.errors import BrokenInvariant
from hpcfilter.comm.base import Channel, Comm


class ThreadComm(Comm):
    """One rank of `run`; all ranks of one run share `room`."""

    backend = "threads"

    def __init__(self, rank, room):
        self.rank, self.size = rank, len(room.slots)
        self.local_rank, self.local_size = rank, self.size
        self._room = room

    def _meet(self, name, value):
        """Show `value` to all ranks; return all ranks' values in rank order."""
        room = self._room
        room.slots[self.rank] = (name, value)
        room.barrier.wait()
        seen = list(room.slots)
        room.barrier.wait()  # nobody writes the next value before all have read this one
        names = {rank: slot[0] for rank, slot in enumerate(seen)}
        if len(set(names.values())) > 1:
            raise BrokenInvariant(f"ranks disagree on the collective: {names}")
        self.sent += getattr(value, "nbytes", 0)
        return [slot[1] for slot in seen]

    def sum(self, array):
        values = self._meet("sum", np.asarray(array))
        return np.sum(values, axis=0, dtype=values[0].dtype)

    def max(self, array):
        return np.max(self._meet("max", np.asarray(array)), axis=0)

    def min(self, array):
        return np.min(self._meet("min", np.asarray(array)), axis=0)

    def exscan(self, value):
        return sum(self._meet("exscan", np.array(value, np.int64))[: self.rank], 0 * value)

    def allgather(self, array):
        return self._meet("allgather", np.asarray(array))

    def gather(self, array):
        values = self._meet("gather", np.asarray(array))
        return iter(values if self.rank == 0 else [])

    def bcast(self, value, root=0):
        return self._meet("bcast", value)[root]

    def alltoallv(self, parts):
        return [np.array(sent[self.rank]) for sent in self._meet("alltoallv", [np.asarray(p) for p in parts])]

    def barrier(self):
        self._meet("barrier", None)

    def channel(self):
        return Channel()

    def abort(self, code):
        raise SystemExit(code)

    def close(self):
        pass


class _Room:
    def __init__(self, size, timeout):
        self.slots = [None] * size
        self.barrier = threading.Barrier(size, timeout=timeout)


def run(size, function, *arguments, timeout=60):
    """Call function(comm, *arguments) on `size` simulated ranks. Returns their results in rank order.

    The first rank's own exception is raised again here; a rank that waits longer than `timeout`
    seconds for the others raises.
    """
    room = _Room(size, timeout)
    results, errors = [None] * size, [None] * size

    def play(rank):
        try:
            results[rank] = function(ThreadComm(rank, room), *arguments)
        except BaseException as error:  # handed to the caller below
            errors[rank] = error
            room.barrier.abort()

    threads = [threading.Thread(target=play, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    raised = [error for error in errors if error is not None]
    if raised:
        raise next((e for e in raised if not isinstance(e, threading.BrokenBarrierError)), raised[0])
    return results
