"""Law 1 for the threshold: the same mask as one process with a stable sort, on any number of ranks."""

import numpy as np
import pytest
from conftest import RANKS

from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run
from hpcfilter.config import share
from hpcfilter.data import edges
from hpcfilter.errors import BrokenInvariant, InputError
from hpcfilter.threshold import cut, key_score, lowest, order_keys


def stable(scores, n):
    """The reference: one process, one stable sort; NaN last and never marked."""
    n = min(n, int((~np.isnan(scores)).sum()))
    mask = np.zeros(len(scores), bool)
    mask[np.argsort(scores + np.float32(0), kind="stable")[:n]] = True
    return mask


def distributed(scores, n, ranks, cuts=None):
    cuts = edges(len(scores), ranks) if cuts is None else cuts
    return np.concatenate(run(ranks, lambda comm: lowest(scores[cuts[comm.rank] : cuts[comm.rank + 1]], n, comm)))


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


def test_random_cases_with_uneven_and_empty_ranks():
    rng = np.random.default_rng(1)
    for _ in range(200):
        ranks, size = int(rng.integers(1, 9)), int(rng.integers(0, 60))
        scores = rng.choice(rng.normal(size=max(1, size // 2)), size).astype(np.float32)
        cuts = np.concatenate([[0], np.sort(rng.integers(0, size + 1, ranks - 1)), [size]])
        n = int(rng.integers(0, size + 1))
        assert np.array_equal(distributed(scores, n, ranks, cuts), stable(scores, n))


def test_payload_is_small_whatever_the_size():
    comm = SerialCounter()
    lowest(np.random.default_rng(0).normal(size=100000).astype(np.float32), 30000, comm)
    assert comm.sent <= 64 * 1024


class SerialCounter(SerialComm):
    def sum(self, array):
        self.sent += np.asarray(array).nbytes
        return super().sum(array)


def test_counts_that_do_not_add_up_stop_everything():
    class Broken(SerialComm):
        def sum(self, array):
            return np.array(array) + (1 if np.size(array) > 1000 else 0)

    with pytest.raises(BrokenInvariant, match="round 0"):
        lowest(np.arange(10, dtype=np.float32), 3, Broken())


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
