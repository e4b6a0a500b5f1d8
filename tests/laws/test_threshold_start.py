"""Where the search for a threshold starts: guesses, and what a wrong one costs."""

import numpy as np
import pytest

from hpcfilter.base.errors import InputError
from hpcfilter.base.shard import edges
from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run
from hpcfilter.select.threshold import cut, lowest


def told(ranks, size, arguments):
    """What each rank is told when they ask for different things. arguments: (n, start) of each rank. Returns
    list of str, "" for an answer."""
    scores = np.random.default_rng(2).normal(size=size).astype(np.float32)
    cuts = edges(size, ranks)

    def ask(comm):
        try:
            lowest(scores[cuts[comm.rank] : cuts[comm.rank + 1]], arguments[comm.rank][0], comm,
                   arguments[comm.rank][1])
        except InputError as error:
            assert error.shared, "all ranks raise it together"
            return str(error)
        return ""

    return run(ranks, ask)


@pytest.mark.parametrize("size", [3, 50, 200_000])
@pytest.mark.parametrize("starts, found", [
    ((0.5, 0.25, 0.5), "ranks 0, 2: 0.5; rank 1: 0.25"),
    ((None, 0.25, None), "ranks 0, 2: none; rank 1: 0.25"),
    ((0.5, 0.5, None), "ranks 0-1: 0.5; rank 2: none"), ((np.nan, 0.5, 0.5), "rank 0: none; ranks 1-2: 0.5"),
    ((-1e-45, 0.0, 1e-45), "rank 0: -1e-45; rank 1: 0.0; rank 2: 1e-45"),
    ((np.inf, -np.inf, np.inf), "ranks 0, 2: inf; rank 1: -inf"),
])
def test_guesses_that_differ_are_refused_on_all_ranks(size, starts, found):
    """Neighbouring guesses, opposite ones, and none on some ranks: no rank waits, none gets a wrong mask."""
    assert told(3, size, [(size // 3, start) for start in starts]) == [f"lowest: start: got {found}; "
                                                                       "expected the same on all ranks"] * 3


def test_numbers_that_differ_are_refused_on_all_ranks():
    for numbers, found in (((5, 6), "rank 0: 5; rank 1: 6"), ((5, 5 + 2**16), "rank 0: 5; rank 1: 65541"),
                           ((-1, 5), "rank 0: -1; rank 1: 5")):
        assert told(2, 100, [(n, None) for n in numbers]) == [f"lowest: n: got {found}; "
                                                              "expected the same on all ranks"] * 2
    assert told(2, 100, [(-1, None)] * 2) == ["lowest: n: got -1, expected 0 or more"] * 2


@pytest.mark.parametrize("start", [None, 0.0, -0.0, 1e-45, -3.4e38, np.inf, np.nan])
def test_guesses_that_agree_are_never_refused(start):
    """On as many ranks as squares of 16 bits can be summed for, and minus zero is zero."""
    assert told(8, 999, [(333, start)] * 8) == [""] * 8
    assert told(2, 999, [(333, 0.0), (333, -0.0)]) == [""] * 2


def test_a_guess_costs_no_message_more_and_saves_the_sample():
    """With a guess that is right the first message has all counts; without one the sample follows it."""
    scores = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    threshold = cut(scores, 60_000, SerialComm())[1]

    class Counted(SerialComm):
        def __init__(self):
            self.calls = []

        def sum(self, array):
            self.calls.append("sum")
            return super().sum(array)

        def allgather(self, array):
            self.calls.append("allgather")
            return super().allgather(array)

    plain, warm = Counted(), Counted()
    assert np.array_equal(lowest(scores, 60_000, plain), lowest(scores, 60_000, warm, threshold))
    assert (plain.calls[:3] == ["sum", "allgather", "sum"] and warm.calls[0] == "sum"
            and "allgather" not in warm.calls)
    assert len(warm.calls) == len(plain.calls) - 2
