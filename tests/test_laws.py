"""Laws 1 to 4, 6 and 8 over whole epochs on simulated ranks: every policy, both orders, 1 to 8 ranks.

The network is a function of (index, epoch): what it would observe does not depend on the number of ranks, so nothing else may.
"""

import numpy as np
import pytest
from conftest import RANKS

from hpcfilter.comm.threads import run
from hpcfilter.data import edges, shard
from hpcfilter.policies import POLICIES
from hpcfilter.randomness import uniform
from hpcfilter.sampler import ORDERS, check_steps, deliver, selection_digest
from hpcfilter.scores import Scores

N, EPOCHS, SEED, GLOBAL_BATCH = 437, 4, 11, 32
GIVEN = {"keep": np.arange(N) % 3 > 0, "weight": np.ones(N, np.float32)}
CASES = {"none": {}, "random": {"fraction": 0.3}, "static": {"selection": "given"}, "kakurenbo": {"fraction": 0.4, "tau": 0.3, "epochs": EPOCHS}}


def look(index, epoch):
    """What a network that learns would see of these samples."""
    u = uniform(0, epoch, index, 2, "network")
    return {"importance": (u[:, 0] * 2 / (epoch + 1)).astype(np.float32), "confidence": u[:, 1].astype(np.float32), "correct": u[:, 1] > 0.2}


def epochs(comm, policy, order, parameters):
    """Three epochs of one rank. Returns (per epoch: selection, plan, digests, trained by all), scores."""
    cuts, owned = edges(N, comm.size), shard(N, comm.rank, comm.size)
    scores = Scores(owned, N, given={name: values[owned.start : owned.stop] for name, values in GIVEN.items()})
    history = []
    for epoch in range(EPOCHS):
        selection = POLICIES[policy](scores, epoch, SEED, comm, **parameters)
        plan = ORDERS[order](selection, cuts, comm, SEED, epoch, GLOBAL_BATCH)
        check_steps(plan, comm)
        scores.observe(*deliver(plan.index, look(plan.index, epoch), cuts, comm))
        refreshed = np.asarray(owned)[selection.refresh]
        scores.observe(refreshed, look(refreshed, epoch))
        observed = int(comm.sum(len(plan.index) + len(refreshed)))
        history.append((selection, plan, (selection_digest(selection, owned, comm), plan.digest(comm)), observed))
    return history, scores


def play(policy, order, ranks, **parameters):
    return run(ranks, epochs, policy, order, {**CASES[policy], **parameters})


def joined(results, epoch, field):
    return np.concatenate([getattr(history[epoch][0], field) for history, _ in results])


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("policy", CASES)
def test_one_run_on_any_number_of_ranks(policy, ranks):
    """Law 1, through four epochs in which each selection depends on the observations of the last."""
    reference, results = play(policy, "global", 1), play(policy, "global", ranks)
    for epoch in range(EPOCHS):
        assert {history[epoch][2] for history, _ in results} == {reference[0][0][epoch][2]}
        for field in ("keep", "weight", "refresh", "moved_back"):
            assert np.array_equal(joined(results, epoch, field), joined(reference, epoch, field))
    for column in Scores.COLUMNS:
        assert np.array_equal(np.concatenate([getattr(scores, column) for _, scores in results]), getattr(reference[0][1], column), equal_nan=True)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("policy", CASES)
def test_partition_and_no_loss(policy, ranks, order):
    """Laws 2 and 8: each kept sample is trained by one rank, steps are equal, and all that was observed has arrived."""
    results = play(policy, order, ranks)
    for epoch in range(EPOCHS):
        plans = [history[epoch][1] for history, _ in results]
        trained = np.concatenate([plan.index for plan in plans])
        keep = np.flatnonzero(joined(results, epoch, "keep"))
        assert np.array_equal(np.unique(trained), keep) and (order == "shard" or len(trained) == len(keep))
        assert len({plan.steps for plan in plans}) == 1
        owner = {index: rank for rank, plan in enumerate(plans) for index in set(plan.index)}
        assert len(owner) == sum(len(set(plan.index)) for plan in plans), "no sample is trained by two ranks"
    assert sum(scores.seen.sum() for _, scores in results) == sum(observed for *_, observed in results[0][0])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("policy", ["random", "kakurenbo"])
def test_fraction_zero_is_no_filter(policy, ranks, order):
    """Law 3: the same samples in the same batches at the same weights and learning rate; nothing is looked at again."""
    baseline, results = play("none", order, ranks), play(policy, order, ranks, fraction=0.0)
    for (history, _), (expected, _) in zip(results, baseline, strict=True):
        for (selection, plan, digests, _), (_, plan_of_none, digests_of_none, _) in zip(history, expected, strict=True):
            assert digests == digests_of_none and selection.lr_scale == 1 and not selection.refresh.any()
            assert np.array_equal(plan.index, plan_of_none.index) and np.array_equal(plan.weight, plan_of_none.weight)


@pytest.mark.parametrize("ranks", RANKS)
def test_weights_that_claim_to_be_unbiased_sum_to_n(ranks):
    """Law 4."""
    results = play("none", "global", ranks)
    for epoch in range(EPOCHS):
        assert (joined(results, epoch, "keep") * joined(results, epoch, "weight")).sum() == N


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("policy", ["random", "kakurenbo"])
def test_a_larger_fraction_only_adds_hidden_samples(policy, ranks):
    """Law 6, from equal scores: the second epoch follows a first one in which nothing could be hidden by what was observed."""
    epoch = 0 if policy == "random" else 1
    hidden = [~joined(play(policy, "global", ranks, fraction=fraction), epoch, "keep") for fraction in (0.1, 0.4, 0.8)]
    assert (hidden[0] <= hidden[1]).all() and (hidden[1] <= hidden[2]).all() and hidden[0].sum() < hidden[2].sum()
