"""What every communicator must do, as functions of a comm; the same assertions for one process, threads, MPI
and torch.distributed."""

import numpy as np
import pytest

from hpcfilter.base.errors import InputError


def reductions(comm):
    rank, size = comm.rank, comm.size
    assert np.array_equal(comm.sum(np.array([1, rank], np.int64)), [size, size * (size - 1) // 2])
    assert comm.sum(np.array([2**63, 2**63], np.uint64)).tolist() == [2**63 * size % 2**64] * 2
    assert comm.max(rank) == size - 1 and comm.min(rank) == 0
    assert comm.exscan(rank + 1) == rank * (rank + 1) // 2
    before = comm.exscan(np.array([[1, rank], [0, 2]], np.int64))
    assert before.tolist() == [[rank, rank * (rank - 1) // 2], [0, 2 * rank]]
    mine = np.array([rank])
    comm.sum(mine)
    assert mine[0] == rank, "the argument must stay as it was"


def gathers(comm):
    mine = np.full((comm.rank, 2), comm.rank, np.float32)  # rank 0 gives nothing
    for part, expected in zip(comm.allgather(mine), range(comm.size), strict=True):
        assert part.shape == (expected, 2) and part.dtype == np.float32 and np.all(part == expected)
    parts = list(comm.gather(mine))
    assert [len(part) for part in parts] == (list(range(comm.size)) if comm.rank == 0 else [])
    assert comm.bcast({"from": comm.rank}) == {"from": 0}
    assert comm.bcast(comm.rank, root=comm.size - 1) == comm.size - 1


def exchanges(comm):
    received = comm.alltoallv([np.full(to, 10 * comm.rank + to, np.int64) for to in range(comm.size)])
    for origin, part in enumerate(received):
        assert np.array_equal(part, np.full(comm.rank, 10 * origin + comm.rank))
    record = np.dtype([("index", np.int64), ("loss", np.float32), ("correct", bool)])
    rows = np.zeros(3, record)
    rows["index"] = comm.rank
    back = comm.alltoallv([rows] * comm.size)
    assert [part["index"].tolist() for part in back] == [[origin] * 3 for origin in range(comm.size)]


def bad_input_is_shared(comm):
    with pytest.raises(InputError, match=rf"^rank {comm.size - 1} says no$"):
        with comm.together():
            if comm.rank == comm.size - 1:
                raise InputError(f"rank {comm.rank} says no")
    with comm.together():
        pass
    assert comm.on_first(lambda: 7 + comm.rank) == 7
    with pytest.raises(InputError, match=r"^first$"):
        comm.on_first(lambda: (_ for _ in ()).throw(InputError("first")))


LAWS = {law.__name__: law for law in (reductions, gathers, exchanges, bad_input_is_shared)}
