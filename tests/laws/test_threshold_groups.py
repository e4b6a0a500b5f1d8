"""The threshold of each of many groups, and cells of even counts: the same on any number of
ranks as on one."""

import numpy as np
import pytest
from conftest import RANKS
from stable_sort import stable_by_group

from hpcfilter.base.errors import BrokenInvariant
from hpcfilter.base.shard import edges
from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run
from hpcfilter.select.threshold import cells, lowest_by_group


def by_group(scores, group, n, ranks):
    cuts = edges(len(scores), ranks)
    owns = [slice(cuts[rank], cuts[rank + 1]) for rank in range(ranks)]
    return np.concatenate(run(ranks, lambda comm: lowest_by_group(scores[owns[comm.rank]],
                                                                  group[owns[comm.rank]], n, comm)))


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("groups", [1, 3, 10, 100, 1000])
def test_groups_equal_a_stable_sort_of_each(groups, ranks):
    rng = np.random.default_rng(groups)
    for _ in range(5):
        size = int(rng.integers(0, 3000))
        scores = rng.choice(rng.normal(size=max(1, size // 3)), size).astype(np.float32)
        scores[rng.random(size) < 0.1] = rng.choice([np.nan, np.inf, -0.0])
        group = rng.integers(0, groups, size) // 2 * 2 % groups  # some groups are empty
        n = rng.integers(0, 2 + 2 * size // groups, groups)
        assert np.array_equal(by_group(scores, group, n, ranks), stable_by_group(scores, group, n))


def test_groups_of_keys_are_exact():
    # neighbours that float32 cannot tell apart
    keys = np.arange(2**31, 2**31 + 1000, dtype=np.uint32)[::-1].copy()
    keys[0] = 2**32 - 1  # the key of NaN is a number among keys
    marked = by_group(keys, np.zeros(1000, int), [300], 3)
    assert np.flatnonzero(marked).tolist() == list(range(700, 1000))
    assert by_group(keys, np.zeros(1000, int), [1000], 3).all()


def test_a_thousand_classes_in_ten_collectives():
    class Counting(SerialComm):
        calls = 0

        def count(self, value, result):
            self.calls, self.sent = self.calls + 1, self.sent + np.asarray(value).nbytes
            return result

        def sum(self, array):
            return self.count(array, super().sum(array))

        def exscan(self, value):
            return self.count(value, super().exscan(value))

    rng, comm = np.random.default_rng(0), Counting()
    scores = rng.integers(0, 50, 100_000).astype(np.float32)
    lowest_by_group(scores, rng.integers(0, 1000, 100_000), np.full(1000, 30), comm)
    assert comm.calls <= 10 and comm.sent <= 1.1e6


@pytest.mark.parametrize("ranks", RANKS)
def test_cells_are_even_and_the_same_on_any_number_of_ranks(ranks):
    rng = np.random.default_rng(6)
    scores = rng.exponential(size=50_000).astype(np.float32)
    scores[7], scores[5:3000:100] = 1e6, np.nan  # an outlier must not swallow the others (D20)
    cuts = edges(len(scores), ranks)
    owned = [range(cuts[rank], cuts[rank + 1]) for rank in range(ranks)]
    results = run(ranks, lambda comm: cells(scores[cuts[comm.rank] : cuts[comm.rank + 1]], owned[comm.rank],
                                            50_000, comm, 256))
    (_, counts), serial = results[0], cells(scores, range(50_000), 50_000, SerialComm(), 256)
    assert all(np.array_equal(b, serial.borders) and np.array_equal(c, serial.counts) for b, c in results)
    assert np.array_equal(np.bincount(serial.of(scores[~np.isnan(scores)]), minlength=len(counts)), counts)
    assert counts.sum() == 50_000 - 30 and len(counts) == 256 and counts.max() < 5 * counts.mean()


def test_cells_of_awkward_scores():
    def of(values):
        return cells(np.array(values, np.float32), range(len(values)), len(values), SerialComm(), 8)

    assert of([]).counts.tolist() == [0] and of([np.nan] * 3).counts.tolist() == [0]
    assert of([2.0] * 9).counts.tolist() == [9, 0] and of([1, 2, 3, np.inf]).counts.sum() == 4


def test_a_lost_count_in_groups_and_cells_stops_everything():
    class Broken(SerialComm):
        def sum(self, array):
            return (np.array(array)
                    + (np.arange(np.size(array)).reshape(np.shape(array)) == 5) * (np.size(array) > 30))

    with pytest.raises(BrokenInvariant, match="threshold by group: round 0: ranks 0 to 0 counted 51 samples "
                                              "together in 3 groups, expected 50"):
        lowest_by_group(np.arange(50, dtype=np.float32), np.arange(50) % 3, [5, 5, 5], Broken())
    with pytest.raises(BrokenInvariant, match="cells: ranks 0 to 0 counted 51 samples together, expected 50"):
        cells(np.arange(50, dtype=np.float32), range(50), 50, Broken())
