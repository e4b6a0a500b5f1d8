"""The filter itself: one Selector under the training loop and under the sampler, whose stretches of
epochs have each a policy."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from law_cases import CASES, EPOCHS
from observations import observed, scores_of, select
from torch.utils.data import DataLoader

from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run
from hpcfilter.data import open_packed, write_table
from hpcfilter.filter import Filter
from hpcfilter.select.policies import POLICIES, policy_function
from hpcfilter.select.policies.kakurenbo import kakurenbo
from hpcfilter.select.policies.random import random
from hpcfilter.select.selector import Selector, Stretch
from hpcfilter.train.checks import score_of
from hpcfilter.train.config import load
from hpcfilter.train.parts import selector_of


def phases(policy, looks, epochs=30, **parameters):
    """A Selector over epochs of looking and then a phase of a policy, with `observed` for what it knows."""
    function, _ = policy_function(policy, parameters, True, True, "", epochs=epochs - looks)
    looking, _ = policy_function("none", {}, True, True, "")
    return Selector([Stretch(0, "none", looking), Stretch(looks, policy, function)], scores_of(observed()), 3,
                    SerialComm())


@pytest.mark.parametrize("policy", ["forget", "ccs", "dyn_unc", "static"])
def test_what_cuts_once_does_so_at_the_beginning_of_its_phase(policy):
    selector = phases(policy, 20, fraction=0.3)
    rows = [selector.select(epoch) for epoch in (19, 20, 21, 29)]
    assert ([row.keep.all() for row in rows] == [True, False, False, False]
            and [row.frozen for row in rows] == [False, True, True, True])
    assert all(np.array_equal(row.keep, rows[1].keep) for row in rows[2:])
    facts = POLICIES[policy].facts
    assert (facts.once({"fraction": 0.3, "selection": None})
            and not facts.once({"fraction": 0.0, "selection": None}))
    assert facts.anew == (policy != "static"), "the papers begin anew with what is left"


def test_a_phase_counts_its_own_epochs_and_draws_with_those_of_the_run():
    late, parameters = phases("kakurenbo", 20, fraction=0.5, tau=0.0), {"fraction": 0.5, "tau": 0.0,
                                                                        "epochs": 10}
    for epoch in (20, 24, 29):
        assert np.array_equal(late.select(epoch).keep, select(kakurenbo, epoch=epoch - 20, **parameters).keep)
    late = phases("random", 20, fraction=0.5)
    assert np.array_equal(late.select(23).keep, select(random, epoch=23, fraction=0.5).keep), (
        "phases do not draw the same samples again")


def test_a_walk_without_replacement_goes_on_over_the_phases():
    """Three phases of one epoch each at a half: no two halves in a row are the same."""
    function, _ = policy_function("random", {"fraction": 0.5, "replacement": False}, True, True, "")
    selector = Selector([Stretch(epoch, "random", function) for epoch in range(3)], scores_of(observed()), 3,
                        SerialComm())
    first, second, _ = (selector.select(epoch).keep for epoch in range(3))
    assert np.array_equal(first, ~second)


def test_a_file_is_for_the_phase_that_names_it():
    """A later phase that is to cut by itself does not take the mask of an earlier one."""
    scores = scores_of(observed())
    samples = len(scores.owned)
    scores.given = {"keep": np.arange(samples) % 2 == 0}
    mask, _ = policy_function("static", {}, True, True, "", given=("keep",))
    cut, _ = policy_function("static", {"fraction": 0.3}, True, True, "")
    stretches = Stretch(0, "static", mask), Stretch(5, "static", cut, reads=False)
    selector = Selector(stretches, scores, 3, SerialComm())
    assert np.array_equal(selector.select(0).keep, np.arange(samples) % 2 == 0)
    later = selector.select(5)
    assert later.frozen and np.count_nonzero(~later.keep) == int(0.3 * samples)


def shows(epoch, labels):
    """What an invented network makes of all samples: losses (N,) and logits (N, 10), which get
    better with the epochs."""
    rng = np.random.default_rng(epoch)
    logits = torch.from_numpy(rng.normal(size=(len(labels), 10)).astype(np.float32))
    logits[np.arange(len(labels)), labels] += epoch
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="none"), logits


BATCH = 256  # over all ranks


def as_train(path, steps, comm):
    """The selections of all epochs as the training loop makes them. steps: of each epoch, the batch that each
    sample was in, int64 (N,).

    Returns list of (keep, weight, lr_scale, refresh).
    """
    config = load(path)
    dataset = open_packed(config.data.path)
    labels, score = dataset.train.labels[:].astype(np.int64), score_of(config, dataset)
    selector, rows = selector_of(config, dataset, SimpleNamespace(score=score, classes=10), comm), []
    for epoch in range(EPOCHS):
        selection, (losses, logits) = selector.select(epoch), shows(epoch, labels)

        def seen(index, losses=losses, logits=logits):
            columns = score.measure(logits[index], torch.from_numpy(labels[index]), losses[index])
            return {name: tensor.numpy() for name, tensor in columns.items()}

        own = np.asarray(selector.scores.owned)[selection.keep]
        selector.take(selection, {**seen(own), "index": own, "step": steps[epoch][own]},
                      steps[epoch].max() + 1)
        hidden = selector.hidden(selection)
        selector.refresh(hidden, seen(hidden))
        rows.append((selection.keep, selection.weight, selection.lr_scale, selection.refresh))
    return rows


def as_filter(make, labels, comm):
    """The same as a script makes them, with a sampler. Returns (them, steps)."""
    of, rows, steps = make(comm), [], []
    for epoch in range(EPOCHS):
        of.set_epoch(epoch)
        losses, logits = shows(epoch, labels)
        steps.append(np.full(len(labels), -1))
        batches = [index.tolist() for index, _ in DataLoader(of.indexed(range(len(labels))),
                                                             batch_size=BATCH // comm.size, sampler=of)]
        for step, index in enumerate(batches):
            of.loss(losses[index], index, logits[index], torch.from_numpy(labels[index]))
            steps[-1][index] = step
        if hidden := of.hidden.tolist():
            of.observe(losses[hidden], hidden, logits[hidden], torch.from_numpy(labels[hidden]))
        rows.append((of.selection.keep, of.selection.weight, of.lr_scale, of.selection.refresh))
    return rows, steps


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "none"])
def test_the_loop_and_the_sampler_select_the_same(policy, digits, config, tmp_path):
    """From equal observations, in every epoch, to the last bit; on one rank and on two."""
    row, dataset = CASES["static cut" if policy == "static" else policy], open_packed(digits)
    total, labels = len(dataset.train), dataset.train.labels[:].astype(np.int64)
    hides = dict(row.hides)
    if policy == "rho":
        write_table(tmp_path / "loss.h5", total,
                    {"loss": (np.float32, [np.linspace(0, 2, total, dtype=np.float32)])},
                    {"data": dataset.digest})
        hides["irreducible"] = str(tmp_path / "loss.h5")
    score = {"score": {"name": row.score} if isinstance(row.score, str) else row.score}
    looking = [{"epochs": row.looks}] if row.looks else []
    path = config(digits,
                  phase=[*looking, {"epochs": EPOCHS - row.looks, "filter": {"policy": policy, **hides}}],
                  **score)

    def make(comm):
        return Filter(total, policy, comm=comm, seed=3, epochs=EPOCHS, labels=labels, after=row.looks,
                      score=row.score, **hides)

    whole, steps = {}, as_filter(make, labels, SerialComm())[1]
    for ranks in (1, 2):
        sampler = [rows for rows, _ in run(ranks, lambda comm: as_filter(make, labels, comm))]
        loop = run(ranks, lambda comm: as_train(path, steps, comm))
        for rank in range(ranks):
            for one, other in zip(loop[rank], sampler[rank], strict=True):
                assert all(np.array_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))
        whole[ranks] = [np.concatenate([rows[epoch][0] for rows in loop]) for epoch in range(EPOCHS)]
    assert all(np.array_equal(one, two) for one, two in zip(*whole.values(), strict=True))
    assert not all(keep.all() for keep in whole[1]), "it hides something"
