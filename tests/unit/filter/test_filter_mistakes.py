"""Mistakes in scripts of other people that use the filter: wrong arguments, batches, states and ranks,
and what is warned of."""

import re

import numpy as np
import pytest
import torch
from filters import sampler, step
from law_cases import EPOCHS, LABELS, SEED, make, train
from law_cases import N as SAMPLES

from hpcfilter.base.errors import InputError
from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run
from hpcfilter.filter import Filter


def test_batches_may_be_left_out_but_not_shuffled():
    of = sampler("none", partial=True)
    index = list(of)
    step(of, index[:10])
    step(of, index[50:60])
    with pytest.raises(InputError,
                       match=r"got a batch that begins with .*, expected .* in the sampler's order"):
        step(of, index[10:20])
    with pytest.raises(InputError, match="batches must come in the sampler's order"):
        step(of, index[61:59:-1])
    with pytest.warns(RuntimeWarning, match="only 20 samples came"):
        of.set_epoch(1)
    seen = np.zeros(SAMPLES, int)
    seen[index[:10] + index[50:60]] = 1
    assert np.array_equal(of.scores.seen, seen) and np.isnan(of.scores.importance[seen == 0]).all()


def test_batches_left_out_in_the_middle_are_warned_of():
    of = sampler("none", partial=True)
    index = list(of)
    step(of, index[:10])
    step(of, index[60:])
    with pytest.warns(RuntimeWarning, match="only 153 samples came"):
        of.set_epoch(1)


def test_an_epoch_is_trained_once():
    of = sampler("none", partial=True)
    step(of, list(of)[:10])
    with pytest.raises(InputError, match=r"epoch 0 is under way or over; call set_epoch\(1\)"):
        iter(of)
    with pytest.raises(InputError, match=r"set_epoch\(0\): that epoch is under way or over"):
        of.set_epoch(0)
    with pytest.warns(RuntimeWarning, match="only 10 samples came"):
        of.set_epoch(1)
    of.set_epoch(1)
    assert len(list(of)) == len(list(of)) == SAMPLES


@pytest.mark.parametrize("index, message", [
    ([0, SAMPLES], f"got 0 to {SAMPLES}, expected 0 to {SAMPLES - 1}"), ([-1, 5], "got -1 to 5"),
    ([0.5, 1], "got float64"), ([[1, 2]], "of shape"),
])
def test_an_index_outside_the_data_set(index, message):
    of = sampler("none")
    list(of)
    with pytest.raises(InputError, match=message):
        of.loss(torch.ones(np.size(index)), index)


def test_mistakes_in_a_step():
    of = sampler("kakurenbo")
    index = list(of)[:4]
    with pytest.raises(InputError, match=r"losses: got shape \(\), expected one per index, \(4,\)"):
        of.loss(torch.ones(4).mean(), index)
    with pytest.raises(InputError, match="kakurenbo with the score loss needs logits and labels"):
        of.loss(torch.ones(4), index)
    with pytest.raises(InputError, match=r"got an output of shape \(4,\) and torch.float32 targets of shape "
                                         r"\(4,\), expected logits \(4, classes\)"):
        of.loss(torch.ones(4), index, torch.ones(4), torch.ones(4))


@pytest.mark.parametrize("arguments, message", [
    ({"policy": "infobach"}, "unknown 'infobach'"), ({"fraction": 0.5}, "Filter(fraction=...): unknown key"),
    ({"order": "local"}, "Filter(order=...): unknown 'local'"),
    ({"score": "grand"}, "Filter(score=...): grand needs more than losses and logits"),
    ({"score": {"name": "ema", "alpha": 3}}, 'Filter(score={"alpha": ...}): '),
    ({"labels": LABELS[:-1]}, "labels: got 202 rows, expected 203"),
    ({"labels": LABELS - 1}, "labels: got int64 from -1, expected integers from 0"),
    ({"labels": LABELS + 0.5}, "labels: got float64"),
    ({"given": {"mask": LABELS}}, "given: got mask; infobatch reads nothing"),
    ({"policy": "static", "given": {"mask": LABELS}}, "given: got mask; static reads keep and weight"),
    ({"policy": "dyn_unc", "after": 5, "epochs": 30},
     "Filter(policy=...): the score dyn_unc is known after 10 epochs, got a cut after 5; lengthen after="),
    ({"policy": "forget"}, "Filter(after=...): missing (of forget, which cuts once, by what earlier epochs "
     "have shown); such as after=20"),
    ({"policy": "forget", "after": 9},
     "Filter(after=...): got 9, expected fewer than the 9 epochs of the training, or nothing is ever hidden"),
    ({"after": -1}, "Filter: after: got -1, expected a whole number from 0 on"),
    ({"policy": "forget", "after": 2, "restart": False},
     "Filter(restart=...): unknown key; known: fraction, per_class"), ({"epochs": 0}, "Filter(epochs=...): "),
    ({"class_floor": 0.5}, "Filter(class_floor=...): needs class labels"),
    ({"policy": "rho"}, "Filter(irreducible=...): missing"),
    ({"epochs": None}, "Filter(epochs=...): missing"),
    ({"policy": "two_sided", "low": 0.6, "high": 0.5}, "Filter(low=...) and high=: got 1.1 together"),
    ({"policy": "my.filter.rules:policy"}, "Filter(policy=...): cannot import 'my.filter.rules:policy'"),
    ({"policy": "static", "epochs": None},
     "Filter(after=...): missing (of static, which cuts once, by what earlier epochs have shown)"),
])
def test_mistakes_in_the_making(arguments, message):
    arguments = {"policy": "infobatch", "epochs": 9, **arguments}
    if arguments["epochs"] is None:
        del arguments["epochs"]
    with pytest.raises(InputError, match=re.escape(message)):
        run(2, lambda comm: Filter(SAMPLES, comm=comm, **arguments))


def test_what_a_policy_finds_wrong_later_is_said_in_words_of_the_call_too():
    def work(comm):
        of = make(comm, "forget", "global")
        with pytest.raises(InputError, match=r"^Filter\(policy=...\): 0 of 203 samples have a score .*; "
                                             r"lengthen after=$") as error:
            of.set_epoch(2)
        return error.value.shared

    assert run(2, work) == [True, True]


def test_ranks_that_are_told_different_things():
    for changes in ({"seed": 3}, {"r": 0.4}, {"order": "shard"}, {"num_samples": 202}, {"epochs": 10},
                    {"after": 2}, {"labels": LABELS}, {"policy": "static", "given": {"keep": LABELS > 0}}):
        with pytest.raises(InputError,
                           match=rf"{next(iter(changes))[-7:]}.*: got .* on rank 1 and .* on rank 0"):
            run(3, lambda comm, changes=changes: Filter(**{"num_samples": SAMPLES, "epochs": 9, "comm": comm,
                                                           **(changes if comm.rank else {})}))


def test_ranks_that_begin_different_epochs():
    """Each would deal by another permutation, and nobody would see it."""
    def work(comm):
        of = Filter(SAMPLES, "none", comm=comm)
        with pytest.raises(InputError, match="set_epoch: got epochs from 1 to 2, expected the same on "
                                             "all ranks") as error:
            of.set_epoch(1 + comm.rank % 2)
        return error.value.shared

    assert run(3, work) == [True] * 3


def test_a_data_set_in_the_place_of_its_length():
    with pytest.raises(InputError,
                       match="num_samples: got list, expected the number of samples, such as len"):
        Filter([1, 2, 3], comm=SerialComm(), epochs=3)


def test_a_data_set_of_another_length():
    with pytest.raises(InputError, match="got a data set of 5 samples, expected 203"):
        sampler("none").indexed(range(5))


def test_more_ranks_than_samples():
    with pytest.raises(InputError, match="got 2 samples on 3 ranks"):
        run(3, lambda comm: Filter(2, "none", comm=comm))


def test_a_filter_that_is_made_too_early(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(InputError, match="WORLD_SIZE is 4, but this process was started alone; "
                                         "make the filter after init_process_group"):
        Filter(SAMPLES, epochs=3)


def test_nothing_is_lost_silently():
    """Observations that do not come, or looks that nobody takes, are warned of once."""
    of = sampler("infobatch")
    list(of)
    with pytest.warns(RuntimeWarning,
                      match="epoch 0: no batch came to `loss`; call it in the place of the mean"):
        of.set_epoch(1)
    list(of)
    with pytest.raises(InputError, match="epoch 1 is over, and no batch came to `loss`"):
        of.set_epoch(2)
    of = sampler("kakurenbo", tau=0.0)
    for epoch in range(2):
        of.set_epoch(epoch)
        step(of, list(of), epoch)
    with pytest.warns(RuntimeWarning, match="the policy wants a forward pass over 26 hidden samples"):
        of.set_epoch(2)


@pytest.mark.parametrize("changes, message", [
    ({"policy": "seta"}, "policy: got a state of infobatch, expected seta"),
    ({"num_samples": 300}, "samples: got a state of 203, expected 300"),
    ({"seed": 1}, "seed: got a state of 11, expected 1"),
    ({"r": 0.4}, "parameters: got a state of .*\"r\": 0.5"),
    ({"score": "ema"}, "score: got a state of loss, expected ema alpha=0.9"),
    ({"labels": LABELS}, "given: got a state of "), ({"order": "shard"}, "order: got a state of global"),
])
def test_the_state_of_another_filter(changes, message):
    of = sampler()
    list(of)
    state = of.state_dict()
    arguments = {"num_samples": SAMPLES, "policy": "infobatch", "epochs": EPOCHS, "seed": SEED, **changes}

    def load(comm):
        Filter(comm=comm, **arguments).load_state_dict(state)

    with pytest.raises(InputError, match=message):
        run(2, load)


@pytest.mark.parametrize("damage", [lambda s: s.pop("scores.seen"),
                                    lambda s: s.update({"scores.seen": torch.zeros(3)}), lambda s: s.clear(),
                                    lambda s: s.update(epoch=None), lambda s: s.update(consumed=10**6),
                                    lambda s: s.pop("over"), lambda s: s.pop("trained.index"),
                                    lambda s: s.update({"looked.value": torch.zeros(4)}),
                                    lambda s: s.update({"trained.index": torch.tensor([SAMPLES])})])
def test_a_damaged_state(damage):
    of = sampler()
    state = of.state_dict()
    damage(state)
    with pytest.raises(InputError, match="Filter: "):
        sampler().load_state_dict(state)


def test_shard_order_in_mid_epoch_stays_on_its_ranks():
    def first(comm):
        of = make(comm, "infobatch", "shard")
        train(of, stop=(1, 1))
        return of.state_dict()

    state = run(2, first)[0]
    with pytest.raises(InputError, match="begun on 2 ranks, expected 3"):
        run(3, lambda comm: make(comm, "infobatch", "shard").load_state_dict(state))
