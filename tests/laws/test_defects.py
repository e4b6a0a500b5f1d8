"""The known defects of public implementations of these methods, each as the test that it would fail. D22
(enemy oversampling) is of a method that is not here."""

import itertools

import numpy as np
import pytest
import torch
from law_cases import N, make, network, play
from torch.utils.data import DataLoader

from hpcfilter.base.errors import InputError
from hpcfilter.base.randomness import hash64
from hpcfilter.base.shard import shard
from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import ThreadComm, run
from hpcfilter.filter import Filter
from hpcfilter.select.home import deliver
from hpcfilter.select.policies import POLICIES, policy_function
from hpcfilter.select.scores import Scores, make_score
from hpcfilter.select.threshold import lowest, mean


def scores_of(importance, **columns):
    scores = Scores(range(len(importance)), len(importance))
    for name, values in {"importance": importance, **columns}.items():
        setattr(scores, name, np.asarray(values, getattr(scores, name).dtype))
    return scores


def test_d1_confidence_does_not_depend_on_the_batch():
    """Softmax over the classes: a sure prediction is sure in a batch of any size."""
    logits = torch.eye(10)[torch.arange(320) % 10] * 20
    labels, score = torch.arange(320) % 10, make_score("loss", {}, True, "")
    for size in (1, 32, 320):
        seen = [score.measure(logits[i : i + size], labels[i : i + size], torch.zeros(size))["confidence"]
                for i in range(0, 320, size)]
        assert (torch.cat(seen) > 0.99).all()


def test_d2_nothing_to_hide_hides_nothing():
    assert not lowest(np.arange(10, dtype=np.float32), 0, SerialComm()).any()
    kakurenbo = POLICIES["kakurenbo"](scores_of(np.arange(10), correct=[True] * 10, confidence=[1] * 10), 1,
                                      0, SerialComm(), epochs=5, fraction=0.05)
    assert kakurenbo.keep.all()


def test_d3_equal_scores_hide_the_exact_count():
    assert lowest(np.ones(1000, np.float32), 300, SerialComm()).sum() == 300


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_d4_padded_duplicates_are_not_summed(ranks):
    """N is no multiple of the number of ranks: stand-ins come twice, and are observed once."""
    def count(comm):
        sampler = make(comm, "none", "global")
        index = list(sampler)
        sampler.loss(network(0)[0][index], index, network(0)[1][index], network(0)[2][index])
        sampler.set_epoch(1)
        return sampler.scores.seen, sampler.scores.importance

    results = run(ranks, count)
    assert (np.concatenate([seen for seen, _ in results]) == 1).all()
    assert np.array_equal(np.concatenate([importance for _, importance in results]), network(0)[0].numpy())


def test_d5_looking_leaves_batch_statistics_alone(digits, config):
    from hpcfilter.data import open_packed
    from hpcfilter.train.config import load
    from hpcfilter.train.network import Network

    dataset = open_packed(digits)
    model = Network(load(config(digits)), dataset)
    model.model.train()
    before = model.digest()
    model.infer(dataset.train, np.arange(100), 32)
    assert model.digest() == before and model.model.training


@pytest.mark.parametrize("order", ["global", "shard"])
def test_d6_all_hidden_and_empty_shards(order):
    """Nothing kept is an error on every rank; a rank that keeps nothing takes as many steps as the others."""
    def kept(comm, keep):
        sampler = Filter(N, "static", comm=comm, order=order, epochs=5,
                         given={"keep": keep, "weight": np.ones(N, np.float32)})
        return len(list(sampler))

    with pytest.raises(InputError, match="keeps no sample"):
        run(3, kept, np.zeros(N, bool))
    assert set(run(3, kept, np.arange(N) < 20)) == {20 if order == "shard" else 7}


def test_d7_the_rate_follows_what_is_really_hidden():
    scores = scores_of(np.arange(100), correct=np.arange(100) % 2 == 0, confidence=[1] * 100)
    selection = policy_function("kakurenbo", {"fraction": 0.4}, True, True, "",
                                epochs=5)[0](scores, 1, 0, SerialComm())
    assert selection.lr_scale == 100 / 80


def test_d8_the_state_goes_on_on_other_ranks():
    """In full in the law `resumes`: here the state that goes from 3 ranks to 2 at the end of an epoch."""
    def first(comm):
        sampler = make(comm, "kakurenbo", "shard")
        index = list(sampler)
        sampler.loss(network(0)[0][index], index, network(0)[1][index], network(0)[2][index])
        return sampler.state_dict()

    def second(comm, state):
        sampler = make(comm, "kakurenbo", "shard")
        sampler.load_state_dict(state)
        sampler.set_epoch(1)
        return sampler.selection.keep

    keep = np.concatenate(run(2, second, run(3, first)[0]))
    assert np.array_equal(keep,
                          np.concatenate([history[1].keep for history in play("kakurenbo", "shard", 3)]))


def test_d9_selections_do_not_depend_on_the_number_of_ranks():
    """In full in the law `any_ranks`."""
    keeps = [np.concatenate([history[3].keep for history in play("infobatch", "global", ranks)])
             for ranks in (1, 2, 3, 4, 8)]
    assert all(np.array_equal(keep, keeps[0]) for keep in keeps) and not keeps[0].all()


def test_d10_an_iterator_does_not_begin_again():
    sampler = make(SerialComm(), "infobatch", "global")
    iterator = iter(sampler)
    assert iter(iterator) is iterator
    drawn = list(itertools.chain(*zip(*[iterator] * 8, strict=False)))
    assert len(set(drawn)) == len(drawn) == N // 8 * 8
    for drop_last in (False, True):
        for workers in (0, 2):
            loader = DataLoader(sampler.indexed(range(N)), batch_size=8, sampler=sampler, drop_last=drop_last,
                                num_workers=workers)
            drawn = torch.cat([index for index, _ in loader]).tolist()
            assert len(drawn) == len(set(drawn)) == (N // 8 * 8 if drop_last else N)


@pytest.mark.parametrize("first", [70_000, 2**24, 2**31, 2**40])
def test_d11_indices_are_integers(first):
    """Ids that bfloat16, float32 and int32 cannot hold reach their owner, and draw numbers of their own."""
    ids = np.arange(first, first + 1001)
    assert len(np.unique(hash64(1, 2, ids))) == 1001
    cuts = np.array([0, first + 500, first + 1001])

    def send(comm):
        mine = ids[comm.rank :: 2]
        return deliver(mine, {"value": (mine % 1000).astype(np.float32)}, cuts, comm)

    for rank, (index, columns) in enumerate(run(2, send)):
        assert (np.array_equal(np.sort(index), np.arange(max(cuts[rank], first), cuts[rank + 1]))
                and np.array_equal(columns["value"], index % 1000))


def test_d12_the_seed_is_the_users():
    """Global random state untouched: the law `leaves_no_trace`. Here: another seed, another draw;
    the same one, the same."""
    keeps = [np.flatnonzero(POLICIES["random"](scores_of(np.zeros(100)), 1, seed, SerialComm(),
                                               fraction=0.5).keep).tolist() for seed in (1, 1, 2)]
    assert keeps[0] == keeps[1] != keeps[2]


def test_d13_nothing_is_patched():
    import subprocess
    import sys

    code = ("import torch.utils.data.dataloader as d; from torch.utils.data import DataLoader as L; "
            "a = dict(vars(L)), dict(vars(d));import hpcfilter; hpcfilter.Filter; import hpcfilter.train; "
            "assert (dict(vars(L)), dict(vars(d))) == a")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("policy, parameters", [
    ("infobatch", {"r": 1.0}), ("random", {"fraction": 1.0}), ("random", {"fraction": 0.95}),
    ("seta", {"r": -0.1})])
def test_d14_a_ratio_is_taken_as_given_or_refused(policy, parameters):
    if parameters.get("fraction") == 0.95:
        keep = policy_function(policy, parameters, True, True, "", epochs=5)[0](scores_of(np.zeros(1000)), 1,
                                                                                0, SerialComm()).keep
        assert keep.sum() == 50
    else:
        with pytest.raises(InputError, match="filter."):
            policy_function(policy, parameters, True, True, "", epochs=5)


def test_d15_a_step_communicates_nothing():
    class Counting(ThreadComm):
        calls = 0

        def _meet(self, name, value):
            self.calls += 1
            return super()._meet(name, value)

    def work(comm):
        comm.__class__ = Counting
        sampler = make(comm, "bls", "global")
        index = list(sampler)
        before = comm.calls
        assert before, "the constructor communicates"
        for start in range(0, len(index), 8):
            batch = index[start : start + 8]
            sampler.loss(network(0)[0][batch], batch, network(0)[1][batch], network(0)[2][batch])
        return comm.calls - before

    assert run(2, work) == [0, 0]


def test_d16_groups_of_losses_without_all_losses_on_a_rank():
    """SeTa on two ranks sends a sample and counts, on the CPU, and far less than the losses."""
    def work(comm):
        owned = shard(200_000, comm.rank, comm.size)
        scores = Scores(owned, 200_000)
        scores.importance = np.random.default_rng(comm.rank).exponential(size=len(owned)).astype(np.float32)
        before = comm.sent
        POLICIES["seta"](scores, 1, 0, comm, epochs=5, window=0.5)
        return comm.sent - before

    assert max(run(2, work)) < 80_000 < 4 * 100_000


def test_d17_weights_belong_to_samples():
    """The weighted gradient equals the full one in the mean over the draws, also when losses and gradients of
    a batch go together (BLS)."""
    rng = np.random.default_rng(0)
    gradient = rng.normal(size=400) + np.linspace(0, 3, 400)
    scores = scores_of(np.linspace(0, 1, 400) ** 2)
    means = []
    for epoch in range(400):
        selection = POLICIES["bls"](scores, epoch, 0, SerialComm(), epochs=10**6, r=0.5)
        means.append((selection.weight * gradient)[selection.keep].sum() / 400)
    assert np.mean(means) == pytest.approx(gradient.mean(), abs=4 * np.std(means) / 20)


def test_d18_each_sample_on_one_rank():
    """In full in the law `one_owner`."""
    trained = [history[2].trained for history in play("infobatch", "global", 4)]
    kept = np.concatenate([history[2].keep for history in play("infobatch", "global", 4)]).sum()
    assert len(set(np.concatenate(trained))) == kept


def test_d19_what_was_never_learnt_is_not_easy():
    score = make_score("forgetting", {}, True, "")
    scores = Scores(range(100), 100, score)
    for epoch in range(5):
        scores.update(np.arange(100),
                      {"value": ((np.arange(100) >= 10) & ((np.arange(100) < 50) | (epoch % 2 == 0)))
                       .astype(np.float32)})
    selection = POLICIES["forget"](scores, 5, 0, SerialComm(), fraction=0.4)
    assert np.flatnonzero(~selection.keep).tolist() == list(range(10, 50))


def test_d20_an_outlier_does_not_change_who_is_kept():
    losses = np.random.default_rng(0).exponential(size=5000).astype(np.float32)
    share = POLICIES["selective_backprop"](scores_of(losses), 1, 0, SerialComm()).keep.mean()
    losses[17] = 1e6
    assert (POLICIES["selective_backprop"](scores_of(losses), 1, 0, SerialComm()).keep.mean()
            == pytest.approx(share, abs=0.005))


def test_d21_each_class_gives_its_own_share():
    labels = np.repeat([0, 1, 2], [500, 300, 40])
    scores = scores_of(np.random.default_rng(0).exponential(size=840))
    scores.labels, scores.classes = labels, 3
    keep = POLICIES["ccs"](scores, 5, 0, SerialComm(), fraction=0.6, per_class=True).keep
    assert np.bincount(labels[keep]).tolist() == [200, 120, 16]


def test_d23_the_draw_is_global_and_reproducible():
    """In full in the laws `seed_decides` and `any_ranks`; the share is that of all samples,
    not of each rank."""
    keeps = [np.concatenate([history[2].keep for history in play("selective_backprop", "global", ranks)])
             for ranks in (1, 4)]
    assert np.array_equal(*keeps)


def test_d24_sums_do_not_depend_on_their_order():
    values = (np.random.default_rng(0).normal(size=3000) * 10.0
              ** np.random.default_rng(1).integers(-6, 6, 3000)).astype(np.float32)

    def work(comm, order):
        own = shard(3000, comm.rank, comm.size)
        return mean(values[order][own.start : own.stop], comm)

    assert len({result for ranks in (1, 2, 5) for order in (np.arange(3000), np.arange(3000)[::-1])
                for result in run(ranks, work, order)}) == 1
