"""What every policy must do, whatever it selects: the conformance suite, as functions of (case, order).
pytest runs them one by one (test_laws), `python -m benchmarks conformance` prints them as a table. The cases,
and the filter and network they are played with, are in `law_cases`.
"""

import copy
import itertools
import random
import warnings

import numpy as np
import torch
from law_cases import CASES, EPOCHS, GLOBAL_BATCH, SEED, N, joined, make, make_nothing, network, play, train
from torch.utils.data import DataLoader

from hpcfilter.base.errors import InputError
from hpcfilter.comm.threads import run
from hpcfilter.select.policies import POLICIES

RANKS = (1, 2, 3, 4, 8)


def epoch_ends(case, order):
    """An epoch ends on every rank after as many samples; taken in pieces or in tuples, each index comes as
    often as in one piece."""
    def pieces(comm):
        sampler = make(comm, case, order)
        whole = list(sampler)
        assert len(whole) == len(sampler)
        iterator = iter(sampler)
        assert (list(itertools.islice(iterator, 7)) + list(itertools.islice(iterator, N)) == whole
                and next(iterator, None) is None)
        iterator = iter(sampler)
        assert list(itertools.chain(*zip(*[iterator] * 4, strict=False))) == whole[: len(whole) // 4 * 4]
        return len(whole)

    for ranks in RANKS:
        assert len(set(run(ranks, pieces))) == 1
        for histories in zip(*play(case, order, ranks), strict=True):
            assert len({len(epoch.losses) for epoch in histories}) == 1, "all ranks take as many steps"


def one_owner(case, order):
    """Each kept sample is trained by one rank: exactly once in `global` order, at least once in `shard`.
    Nothing else is, but for stand-ins."""
    for ranks in RANKS:
        results = play(case, order, ranks)
        for epoch in range(EPOCHS):
            keep, trained = np.flatnonzero(joined(results, epoch, "keep")), joined(results, epoch, "trained")
            count = np.bincount(trained, minlength=N)
            if order == "global":
                assert (len(trained) == -(-len(keep) // ranks) * ranks
                        and (np.maximum(count, 1) - 1).sum() == len(trained) - len(keep))
                assert np.array_equal(np.flatnonzero(count), keep)
            else:
                # a rank that keeps nothing has stand-ins
                own = [set(history[epoch].trained) for history in results if history[epoch].keep.any()]
                assert sum(map(len, own)) == len(keep) and set(keep) == set().union(*own)


def weights_add_up(case, order):
    """The losses that go backward are the weighted means they claim to be; weights sum to N
    where a policy claims it."""
    row = CASES[case]
    claims = POLICIES[row.policy].facts.sums_to_n(row.hides) and "class_floor" not in row.hides
    for ranks in RANKS:
        results = play(case, order, ranks)
        for epoch in range(EPOCHS):
            keep, weight = joined(results, epoch, "keep"), joined(results, epoch, "weight")
            if claims:
                assert abs(weight[keep].astype(np.float64).sum() - N) < 1e-3
            weighted = np.where(keep, weight * network(epoch)[0].numpy(), 0).astype(np.float64)
            if order == "global":
                assert (abs(backward([history[epoch] for history in results], keep.sum()) - weighted.sum())
                        < 1e-3 * max(1, weighted.sum()))
            else:  # every rank's mean, at the rank's share of the kept samples
                for history in results:
                    row, share = history[epoch], history[epoch].keep.sum() * ranks / keep.sum()
                    cuts = np.cumsum([0, *(size for _, size in row.losses)])
                    for (loss, _), first, last in zip(row.losses, cuts, cuts[1:], strict=False):
                        assert (abs(loss - weighted[row.trained[first:last]].mean() * share)
                                < 1e-4 * max(1, loss))


def backward(rows, samples):
    """Sum of weight * loss over the samples of an epoch, from the losses that went backward. rows: Epoch of
    each rank. samples: how many are real."""
    batches = list(zip(*(row.losses for row in rows), strict=True))
    real = [sum(size for _, size in batch) for batch in batches]
    if real:
        real[-1] -= sum(real) - samples
    return sum(np.mean([loss for loss, _ in batch]) * count
               for batch, count in zip(batches, real, strict=True))


def seed_decides(case, order):
    """The same seed gives the same run, another one another order, and another selection
    where the policy draws."""
    first, again, other = (run(2, lambda comm, seed=seed: train(make(comm, case, order, seed=seed)))
                           for seed in (SEED, SEED, SEED + 1))
    for epoch in range(EPOCHS):
        for one, two in zip(first, again, strict=True):
            assert (np.array_equal(one[epoch].trained, two[epoch].trained)
                    and np.array_equal(one[epoch].keep, two[epoch].keep))
    assert any(not np.array_equal(one[epoch].trained, two[epoch].trained)
               for one, two in zip(first, other, strict=True) for epoch in range(EPOCHS))
    if CASES[case].draws:
        assert any(not np.array_equal(joined(first, epoch, "keep"), joined(other, epoch, "keep"))
                   for epoch in range(EPOCHS))


def any_ranks(case, order):
    """The same selection, weights and learning rate on any number of ranks, through epochs that depend on the
    ones before; in `global` order the same batches.
    """
    reference = play(case, order, 1)
    if order == "shard" and CASES[case].policy == "bls":
        return "nothing to say"  # the batches differ by design, and with them the batch losses
    for ranks in RANKS:
        results = play(case, order, ranks)
        for epoch in range(EPOCHS):
            for field in ("keep", "weight", "refresh"):
                assert np.array_equal(joined(results, epoch, field),
                                      joined(reference, epoch, field)), (ranks, epoch, field)
            assert len({(history[epoch].lr_scale, history[epoch].anew)
                        for history in (*results, *reference)}) == 1
            if order == "global":
                batch, rows = GLOBAL_BATCH // ranks, [history[epoch].trained for history in results]
                for step in range(len(reference[0][epoch].losses) - 1):
                    got = set(np.concatenate([row[step * batch : (step + 1) * batch] for row in rows]))
                    assert got == set(reference[0][epoch]
                                      .trained[step * GLOBAL_BATCH : (step + 1) * GLOBAL_BATCH])


def resumes(case, order):
    """Stopped after a batch of the third epoch, or when that epoch and its looks are over; saved,
    and restored on as many ranks or on others: the same future, to the last bit of what goes
    backward and of what is known."""
    for batch, ranks in itertools.product((1, None), (2, 4)):
        def first(comm, batch=batch):
            return train(make(comm, case, order), stop=(2, batch)).state

        state = copy.deepcopy(run(ranks, first)[0])
        for later in ((1, 2) if order == "global" or (batch is None and CASES[case].policy != "bls")
                      else (ranks,)):
            def second(comm, state=state):
                sampler = make(comm, case, order)
                sampler.load_state_dict(state if comm.rank == 0 else None)
                return sampler.first_epoch, train(sampler)

            reference, results = play(case, order, later), run(later, second)
            assert {begin for begin, _ in results} == {2 if batch else 3}
            results = [history for _, history in results]
            if batch:
                rest_of_an_epoch([history.pop(0) for history in results],
                                 [history[2] for history in reference],
                                 set(joined(play(case, order, ranks), 2, "keep").nonzero()[0]),
                                 state["consumed"], ranks == later)
            for epoch in range(3, EPOCHS):
                for field in ("keep", "weight", "refresh", "trained"):
                    assert np.array_equal(joined(results, epoch - 3, field),
                                          joined(reference, epoch, field)), (ranks, later, epoch, field)
                assert [history[epoch - 3].losses for history in results] == [history[epoch].losses
                                                                              for history in reference]
            for name, column in reference[0].state.items():
                if order == "shard" and later != ranks and name in ("scores.seen", "trained.index"):
                    continue  # how often a short rank goes round its samples depends on the ranks
                got = results[0].state[name]
                if name.startswith("scores."):
                    assert np.array_equal(got, column, equal_nan=True), name
                elif name.endswith(".index"):
                    assert np.array_equal(np.sort(got), np.sort(column)), name


def rest_of_an_epoch(rows, reference, keep, consumed, same_ranks):
    """What is trained after a stop is what was left: row by row on as many ranks, as a whole on others."""
    if same_ranks:
        for row, whole in zip(rows, reference, strict=True):
            assert (np.array_equal(row.trained, whole.trained[len(whole.trained) - len(row.trained) :])
                    and row.losses == whole.losses[1:])
        return
    # as dealt: card by card
    order = np.stack([whole.trained for whole in reference], axis=1).reshape(-1)[: len(keep)]
    rest = set(order[consumed:])
    trained = np.concatenate([row.trained for row in rows])
    assert rest <= set(trained) and len(trained) == -(-len(rest) // len(rows)) * len(rows)
    weight = np.concatenate([row.weight for row in rows])
    wanted = sum(float(weight[i]) * float(network(2)[0][i]) for i in rest)
    assert abs(backward(rows, len(rest)) - wanted) < 1e-3 * max(1, wanted)


def monotone(case, order):
    """From equal scores, more of the policy only adds hidden samples."""
    if not CASES[case].rising:
        return "nothing to say"
    # the first epoch that anything is known in
    (name, values), epoch = CASES[case].rising, max(1, CASES[case].looks)
    hidden = [~np.concatenate([history[epoch].keep for history in run(
        2, lambda comm, value=value: train(make(comm, case, order, **{name: value})))]) for value in values]
    assert (all((less <= more).all() for less, more in itertools.pairwise(hidden))
            and hidden[0].sum() < hidden[-1].sum())
    return None


def nothing_is_baseline(case, order):
    """With its fraction at zero the policy is no filter: the same samples, order, weights and learning rate
    as `none`, and no second looks."""
    if CASES[case].nothing is None:
        return "nothing to say"  # a variant of a policy that has a row of its own
    for ranks in RANKS:
        baseline = play("none", order, ranks)
        results = run(ranks, lambda comm: train(make_nothing(comm, case, order)))
        for history, expected in zip(results, baseline, strict=True):
            for got, want in zip(history, expected, strict=True):
                assert np.array_equal(got.trained, want.trained) and got.losses == want.losses
                assert ((got.weight == 1).all() and got.lr_scale == 1 and not got.anew
                        and not got.refresh.any())


def leaves_no_trace(case, order):
    """No global random state is touched, no DataLoader patched."""
    def fingerprint():
        return (random.getstate(), np.random.get_state()[1].tobytes(),
                torch.get_rng_state().numpy().tobytes(), dict(vars(DataLoader)))

    def work(comm):
        sampler = make(comm, case, order)
        for epoch in range(EPOCHS):
            sampler.set_epoch(epoch)
            for index, take in ((list(sampler), sampler.loss), (sampler.hidden, sampler.observe)):
                losses, logits, labels = (part[index] for part in network(epoch))
                take(losses, index, logits, labels)

    for epoch in range(EPOCHS):
        network(epoch)
    before = fingerprint()
    run(2, work)
    assert fingerprint() == before


def bad_losses(case, order):
    """A NaN and an infinite loss are warned of once, and their samples train in the next epoch."""
    wrong = [5, 150]

    def work(comm):
        sampler = make(comm, case, order)
        for epoch in range(2):
            sampler.set_epoch(epoch)
            losses, logits, labels = network(epoch)
            losses = losses.clone()
            losses[wrong[0]], losses[wrong[1]] = torch.nan, torch.inf
            index = list(sampler)
            sampler.loss(losses[index], index, logits[index], labels[index])
        sampler.set_epoch(2)
        return np.isnan(sampler.scores.importance), sampler.selection.keep

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = run(2, work)
    assert sum("losses are not finite; their samples are kept" in str(warning.message)
               for warning in caught) == 1
    unknown, keep = (np.concatenate([result[part] for result in results]) for part in (0, 1))
    if case in ("random", "random walk", "static"):
        return "nothing to say"  # they hide whatever the losses are
    assert unknown[wrong].all() or case == "static cut"  # whose scores are those of the first epoch
    assert keep[unknown].all()
    return None


def extremes(case, order):
    """With everything hidden that can be hidden the epochs end alike on all ranks, or all ranks stop and say
    that nothing is kept; a network that has diverged stops all ranks."""
    def strongest(comm):
        sampler = make(comm, case, order, **CASES[case].most)
        try:
            return [len(epoch.losses) for epoch in train(sampler)]
        except InputError as error:
            return str(error)

    def diverged(comm):
        sampler = make(comm, case, order)
        index = list(sampler)
        sampler.loss(torch.full((len(index),), torch.nan), index, network(0)[1][index], network(0)[2][index])
        try:
            sampler.set_epoch(1)
        except InputError as error:
            return str(error)
        return None

    for ranks in (1, 3, 8):
        ends = run(ranks, strongest)
        assert all(end == ends[0] for end in ends)
        assert (min(ends[0]) >= 1 if isinstance(ends[0], list)
                else ends[0] == "filter: the policy keeps no sample in this epoch")
    assert all("the network has diverged" in (message or "") for message in run(3, diverged))


LAWS = {law.__name__.replace("_", " "): law for law in (
    epoch_ends, one_owner, weights_add_up, seed_decides, any_ranks, resumes, monotone, nothing_is_baseline,
    leaves_no_trace, bad_losses, extremes)}
