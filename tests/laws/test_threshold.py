"""Law 1 for the threshold: the same mask as one process with a stable sort, on any number of ranks."""

import fractions
import sys
import tracemalloc

import numpy as np
import pytest
from conftest import RANKS
from stable_sort import stable

from hpcfilter.base.errors import BrokenInvariant, InputError
from hpcfilter.base.shard import edges
from hpcfilter.base.shares import share
from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import ThreadComm, run
from hpcfilter.select.threshold import cut, exact_sum, key_score, lowest, lowest_keys, mean, order_keys


def distributed(scores, n, ranks, cuts=None, start=None):
    cuts = edges(len(scores), ranks) if cuts is None else cuts
    return np.concatenate(run(ranks, lambda comm: lowest(scores[cuts[comm.rank] : cuts[comm.rank + 1]], n,
                                                         comm, start)))


R = np.random.default_rng(7)
TINY = np.float32(1e-45)
CASES = {
    "normal": R.normal(size=1000),
    "all equal": np.full(100, 2.5),
    "two values": R.integers(0, 2, 500),
    "many ties": R.integers(0, 5, 1000) / 3,
    "nan": np.where(R.random(300) < 0.3, np.nan, R.normal(size=300)),
    "all nan": np.full(20, np.nan),
    "infinities": np.where(R.random(300) < 0.4, R.choice([np.inf, -np.inf], 300), R.normal(size=300)),
    "negative zero": R.choice([0.0, -0.0], 200),
    "denormals": R.choice([TINY, -TINY, 0.0, 2 * TINY], 200),
    "sorted": np.arange(257.0),
    "reversed": -np.arange(257.0),
    "fewer than ranks": np.array([3.0, 1.0]),
    "one": np.array([1.0]),
    "none": np.array([]),
}


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", CASES)
def test_equals_a_stable_sort(name, ranks):
    scores = CASES[name].astype(np.float32)
    for n in {0, 1, len(scores) // 3, len(scores) - 1, len(scores), len(scores) + 5} - {-1}:
        assert np.array_equal(distributed(scores, n, ranks), stable(scores, n)), n


@pytest.fixture(params=["plain", "bracket", "narrow bracket"])
def engine(request, monkeypatch):
    """The three ways through the engine, at sizes that a test can afford: no bracket, one that holds,
    one that mostly misses."""
    module = sys.modules["hpcfilter.select.threshold.lowest"]
    if request.param != "plain":
        monkeypatch.setattr(module, "SMALL", 0)
        monkeypatch.setattr(module, "SAMPLE", 24)
    if request.param == "narrow bracket":
        monkeypatch.setattr(module, "SIGMAS", 0.05)


@pytest.mark.parametrize("cases", [300, pytest.param(1000, marks=pytest.mark.nightly)])
def test_random_cases_with_uneven_and_empty_ranks(engine, cases):
    rng = np.random.default_rng(1)
    for case in range(cases):
        ranks, size = 1 + case % 8, int(rng.integers(0, 200))
        scores = rng.choice(rng.normal(size=max(1, size // 2)), size).astype(np.float32)
        scores[rng.random(size) < rng.choice([0, 0.3])] = rng.choice([np.nan, np.inf, -np.inf, -0.0, TINY])
        cuts = np.concatenate([[0], np.sort(rng.integers(0, size + 1, ranks - 1)), [size]])
        n = int(rng.integers(0, size + 1))
        start = rng.choice([None, 0.0, 0.5, np.inf, np.nan])
        assert np.array_equal(distributed(scores, n, ranks, cuts, start), stable(scores, n)), case


@pytest.mark.parametrize("name", CASES)
def test_adversarial_cases_by_every_way(engine, name):
    scores = CASES[name].astype(np.float32)
    for ranks in range(1, 9):
        for n in {0, 1, len(scores) // 3, len(scores) - 1, len(scores), len(scores) + 5} - {-1}:
            assert np.array_equal(distributed(scores, n, ranks), stable(scores, n)), (ranks, n)


@pytest.mark.parametrize("name", ["normal", "equal", "few values", "nan", "sorted", "rank by rank"])
def test_large_cases_go_through_the_bracket(name):
    rng = np.random.default_rng(3)
    scores = {"normal": rng.normal(size=200_000), "equal": np.ones(200_000),
              "few values": rng.integers(0, 4, 200_000),
              "nan": np.where(rng.random(200_000) < 0.4, np.nan, rng.normal(size=200_000)),
              "sorted": np.arange(200_000),
              "rank by rank": np.repeat([5.0, 1.0, 3.0, 2.0], 50_000)}[name].astype(np.float32)
    for ranks in (1, 3, 8):
        for n in (1, 60_000, 150_000, 199_999):
            assert np.array_equal(distributed(scores, n, ranks), stable(scores, n)), (ranks, n)


def test_more_samples_than_float32_can_count():
    # distinct, scattered
    keys = (np.arange(2**24 + 5000, dtype=np.uint64) * 2654435761 % 2**32).astype(np.uint32)
    marked, threshold = lowest_keys(keys, 2**24, SerialComm())
    assert np.count_nonzero(marked) == 2**24 and keys[marked].max() == threshold < keys[~marked].min()


def test_ties_beyond_two_to_the_31():
    """Synthetic ranks before this one: 2^31 equal keys below index 2^31, of which 2^31 + 3 are wanted."""
    class Last(SerialComm):
        rank, size = 1, 2

        def sum(self, array):
            array = np.array(array)
            if array.shape == (20,):  # the first message: both were asked for the same
                return array + np.array([*array[:16], 2**31, 0, 0, 0])
            return array + 2**31 * (array == array.max()) if array.ndim else array + 2**31

        def allgather(self, array):
            return [np.array([2**31], np.uint64).view(np.uint32), array]

        def exscan(self, value):
            return 2**31

    assert np.flatnonzero(lowest_keys(np.full(10, 7, np.uint32), 2**31 + 3, Last())[0]).tolist() == [0, 1, 2]


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("size", [100, 70_000, 1_000_000])
def test_payload_is_small_whatever_the_size(size, ranks):
    scores = np.random.default_rng(0).normal(size=size).astype(np.float32)
    scores[: size // 10] = np.nan
    cuts = edges(size, ranks)

    def sent(comm):
        before = comm.sent
        # a wrong guess and a missed bracket cost most
        lowest(scores[cuts[comm.rank] : cuts[comm.rank + 1]], size - size // 10, comm, start=99.0)
        return comm.sent - before

    assert max(run(ranks, sent)) <= 64 * 1024


def test_memory_follows_the_rank_and_not_the_data_set():
    scores = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    tracemalloc.start()
    lowest(scores, 300_000, SerialComm())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 8 * len(scores) + 2**20


@pytest.mark.parametrize("ranks", RANKS)
def test_sums_and_means_are_exact(ranks):
    rng = np.random.default_rng(5)
    values = (rng.normal(size=999) * 10.0 ** rng.integers(-44, 38, 999)).astype(np.float32)
    values[::100] = [np.nan, np.inf, -np.inf, TINY, -TINY, 0, -0.0, 1, 3, -2]
    cuts = edges(len(values), ranks)
    results = run(ranks, lambda comm: (exact_sum(part := values[cuts[comm.rank] : cuts[comm.rank + 1]], comm),
                                       mean(part, comm)))
    finite = values[np.isfinite(values)]
    total = sum(map(fractions.Fraction, finite.tolist()))
    assert set(results) == {((total, len(finite)), float(total / len(finite)))}


def test_no_mean_of_nothing():
    assert np.isnan(mean(np.array([np.nan, np.inf], np.float32), SerialComm()))


def test_counts_that_do_not_add_up_stop_everything():
    class Broken(SerialComm):
        def sum(self, array):
            return np.array(array) + (1 if np.size(array) > 1000 else 0)

    with pytest.raises(BrokenInvariant, match="round 0: ranks 0 to 0 counted .* expected 10 .*rank 0"):
        lowest(np.arange(10, dtype=np.float32), 3, Broken())


def test_a_wrong_count_of_ties_stops_everything():
    class Wrong(SerialComm):
        def exscan(self, value):
            return 3

    with pytest.raises(BrokenInvariant,
                       match="threshold: the end: .* counted 147 samples together, expected 150"):
        lowest(np.ones(300, np.float32), 150, Wrong())


@pytest.mark.parametrize("call", [0, 1, 2, 3])
def test_a_lost_count_on_one_rank_stops_all_ranks(call):
    """One rank's part of one reduction loses a count, as a flipped bit would: every rank stops
    and says in which round."""
    class Flip(ThreadComm):
        sums = 0

        def sum(self, array):
            array = np.array(array)
            if self.rank == 1 and self.sums == call:
                array.flat[np.argmax(array != 0)] -= 1
            self.sums += 1
            return super().sum(array)

    scores = np.random.default_rng(0).normal(size=90_000).astype(np.float32)

    def play(comm):
        comm.__class__ = Flip
        try:
            cut(scores[30_000 * comm.rank : 30_000 * comm.rank + 30_000], 30_000, comm)
        except BrokenInvariant as error:
            return str(error)

    results = run(3, play)
    where = ["the first message", "the bracket", "round 0", "round 1"][call]
    assert [error.partition(" ranks 0")[0] for error in results] == [f"threshold: {where}:"] * 3
    assert [error.rpartition("(")[2] for error in results] == [f"seen by rank {rank})" for rank in range(3)]


def test_negative_n_is_refused():
    with pytest.raises(InputError, match="n: got -1"):
        lowest(np.zeros(3, np.float32), -1, SerialComm())


def test_cut_gives_the_highest_marked_score():
    mask, threshold = cut(np.array([3, -1, 2, 7], np.float32), 2, SerialComm())
    assert list(mask) == [False, True, True, False] and threshold == 2
    assert np.isnan(cut(np.ones(3, np.float32), 0, SerialComm())[1])


def test_keys_keep_the_order_and_come_back():
    scores = np.array([-np.inf, -3.5, -1e-45, 0.0, 1e-45, 2.0, np.inf], np.float32)
    keys = order_keys(scores)
    assert np.all(np.diff(keys.astype(np.int64)) > 0)
    assert [key_score(key) for key in keys] == scores.tolist()
    assert order_keys(np.array([-0.0], np.float32)) == order_keys(np.array([0.0], np.float32))


def test_share_survives_floating_point():
    assert [share(f, 100) for f in (0, 0.29, 0.3, 0.57, 0.999)] == [0, 29, 30, 57, 99]
    assert share(0.29, 10**8) == 29 * 10**6 and share(0.3, 10**12 + 1) == 3 * 10**11
