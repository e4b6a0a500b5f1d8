"""Laws 1, 2 and 8 for the batches: the same on any number of ranks, each sample where it
belongs, nothing lost."""

import numpy as np
import pytest
from conftest import RANKS

from hpcfilter.base.errors import BrokenInvariant, InputError
from hpcfilter.base.shard import edges, shard
from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run
from hpcfilter.select.home import deliver, fetch
from hpcfilter.select.kept import KeptSet
from hpcfilter.select.order import Plan, check_steps, global_plan, selection_digest, shard_plan
from hpcfilter.select.policies import Selection

N = 1003


def keep_mask(share=0.7, seed=0):
    return np.random.default_rng(seed).random(N) < share


def plans(plan, keep, ranks, global_batch=96, epoch=1, weight=None):
    """The plan of every rank, and the two digests."""
    cuts = edges(len(keep), ranks)

    def play(comm):
        own = slice(cuts[comm.rank], cuts[comm.rank + 1])
        selection = Selection(keep[own], None if weight is None else weight[own])
        made = plan(selection, cuts, comm, 5, epoch, global_batch)
        check_steps(made, comm)
        return made, selection_digest(selection, shard(len(keep), comm.rank, ranks), comm), made.digest(comm)

    return run(ranks, play)


def batches(results):
    """The global batches: a set of indices per step."""
    return [set(np.concatenate([batch.index for batch in step]))
            for step in zip(*(plan.batches() for plan, *_ in results), strict=True)]


KEPT = {"mixed": keep_mask(), "all": keep_mask(1.1), "few": keep_mask(0.02), "clustered": np.arange(N) > 900,
        "one": np.arange(N) == 5}


@pytest.mark.parametrize("keep", KEPT.values(), ids=KEPT)
def test_global_batches_are_the_same_on_any_number_of_ranks(keep):
    reference = plans(global_plan, keep, 1)
    for ranks in RANKS:
        results = plans(global_plan, keep, ranks)
        assert batches(results) == batches(reference)
        assert {result[1:] for result in results} == {reference[0][1:]}


@pytest.mark.parametrize("ranks", RANKS)
def test_global_order_trains_every_kept_sample_exactly_once(ranks):
    keep = keep_mask()
    results = plans(global_plan, keep, ranks)
    trained = np.concatenate([plan.index for plan, *_ in results])
    assert np.array_equal(np.sort(trained), np.flatnonzero(keep))
    for plan, *_ in results:
        assert plan.steps == -(-keep.sum() // 96) and plan.totals.sum() == keep.sum()
    sizes = [len(batch) for batch in batches(results)]
    assert max(sizes) - min(sizes) <= 1 and max(sizes) <= 96


@pytest.mark.parametrize("ranks", RANKS)
def test_shard_order_trains_own_samples_in_equal_steps(ranks):
    keep = keep_mask()
    keep[: N // 8] = False  # on 8 ranks the first one has nothing to train
    results = plans(shard_plan, keep, ranks)
    cuts = edges(N, ranks)
    per_sample = np.zeros(N)
    for rank, (plan, *_) in enumerate(results):
        assert np.all((plan.index >= cuts[rank]) & (plan.index < cuts[rank + 1]))
        assert set(plan.index) == set(np.flatnonzero(keep[cuts[rank] : cuts[rank + 1]]) + cuts[rank])
        np.add.at(per_sample, plan.index, plan.weight)
    # Unbiased: a rank's samples weigh together what its share of the kept samples is.
    total = results[0][0].totals.sum()
    for rank in range(ranks):
        own = slice(cuts[rank], cuts[rank + 1])
        assert per_sample[own].sum() / total == pytest.approx(keep[own].sum() / keep.sum(), rel=1e-5)


def test_orders_differ_by_epoch_and_not_by_call():
    keep = keep_mask()
    first, again, next_epoch = (plans(global_plan, keep, 2, epoch=e)[0][2] for e in (1, 1, 2))
    assert first == again != next_epoch


@pytest.mark.parametrize("plan", [global_plan, shard_plan])
def test_nothing_kept_is_an_epoch_without_steps(plan):
    def play(comm):
        made = plan(Selection(np.zeros(5, bool)), edges(15, 3), comm, 0, 0, 4)
        assert made.steps == 0 and list(made.batches()) == []
        check_steps(made, comm)

    with pytest.raises(InputError, match="keeps no sample"):
        run(3, play)


@pytest.mark.parametrize("ranks", RANKS)
def test_weights_travel_with_their_samples(ranks):
    weight = np.arange(N, dtype=np.float32) / 7
    for plan, *_ in plans(global_plan, keep_mask(), ranks, weight=weight):
        assert np.array_equal(plan.weight, weight[plan.index])


@pytest.mark.parametrize("ranks", RANKS)
def test_observations_reach_their_owners(ranks):
    cuts = edges(N, ranks)

    def play(comm):
        plan = global_plan(Selection(keep_mask()[cuts[comm.rank] : cuts[comm.rank + 1]]), cuts,
                           comm, 0, 0, 64)
        index, columns = deliver(plan.index, {"loss": plan.index.astype(np.float32) / 3,
                                              "correct": plan.index % 2 == 0}, cuts, comm)
        assert np.all((index >= cuts[comm.rank]) & (index < cuts[comm.rank + 1]))
        assert (np.array_equal(columns["loss"], index.astype(np.float32) / 3)
                and columns["loss"].dtype == np.float32)
        assert np.array_equal(columns["correct"], index % 2 == 0) and columns["correct"].dtype == bool
        own = np.arange(cuts[comm.rank], cuts[comm.rank + 1])
        assert np.array_equal(fetch(plan.index, own * 2, cuts, comm), plan.index * 2)
        return index

    assert np.array_equal(np.sort(np.concatenate(run(ranks, play))), np.flatnonzero(keep_mask()))


def test_lost_observations_are_noticed():
    class Leaky(SerialComm):
        def alltoallv(self, parts):
            return [parts[0][:-1]]

    with pytest.raises(BrokenInvariant, match="10 observations were sent to their owners and 9 arrived"):
        deliver(np.arange(10), {"loss": np.zeros(10)}, np.array([0, 10]), Leaky())


def test_uneven_steps_are_caught_before_the_epoch():
    def play(comm):
        steps = 3 + (comm.rank == 2)
        check_steps(Plan(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(steps + 1, np.int64),
                         np.zeros(steps), 1.0), comm)

    with pytest.raises(BrokenInvariant, match=r"ranks 0-1: 3; rank 2: 4"):
        run(3, play)


@pytest.mark.parametrize("size", [1, 511, 512, 513, 5000])
def test_select_finds_the_kth_kept_sample(size):
    keep = np.random.default_rng(size).random(size) < 0.5
    keep[0] = True
    kept = KeptSet(keep, SerialComm())
    assert np.array_equal(kept.select(np.arange(kept.count)), np.flatnonzero(keep))


def test_a_rank_may_own_nothing():
    results = plans(global_plan, np.ones(3, bool), 8, global_batch=8)
    assert sorted(np.concatenate([plan.index for plan, *_ in results])) == [0, 1, 2]
