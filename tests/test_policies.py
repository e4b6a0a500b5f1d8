"""Policies one by one: law 1 on awkward scores, and the known defects of public implementations."""


import numpy as np
import pytest
from conftest import RANKS

from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run
from hpcfilter.data import edges
from hpcfilter.errors import InputError
from hpcfilter.policies import POLICIES, policy_function
from hpcfilter.policies.kakurenbo import kakurenbo
from hpcfilter.policies.random import random
from hpcfilter.policies.static import static
from hpcfilter.scores import Scores

N = 1000


def observed(n=N, seed=0):
    """Plausible observations of n samples, with ties and a few that were never made."""
    rng = np.random.default_rng(seed)
    importance = np.round(rng.exponential(size=n), 2).astype(np.float32)
    importance[rng.random(n) < 0.05] = np.nan
    keep = rng.random(n) < 0.6
    return {"importance": importance, "confidence": rng.random(n).astype(np.float32), "correct": rng.random(n) < 0.8,
            "given": {"keep": keep, "weight": rng.random(n).astype(np.float32)}}


def scores_of(columns, owned, total):
    own = slice(owned.start, owned.stop)
    given = {name: values[own] for name, values in columns["given"].items()}
    return Scores(owned, total, *(columns[name][own].copy() for name in ("importance", "confidence", "correct")), given=given)


def selections(policy, columns, ranks, epoch=1, seed=3, **parameters):
    cuts = edges(len(columns["importance"]), ranks)

    def play(comm):
        owned = range(int(cuts[comm.rank]), int(cuts[comm.rank + 1]))
        return policy(scores_of(columns, owned, int(cuts[-1])), epoch, seed, comm, **parameters)

    return run(ranks, play)


CASES = {"none": {}, "random": {"fraction": 0.37}, "static": {"selection": "x"}, "kakurenbo": {"fraction": 0.4, "tau": 0.5}}


def test_every_policy_has_a_case():
    assert set(CASES) == set(POLICIES)


@pytest.mark.parametrize("name", CASES)
def test_selection_and_weights_do_not_depend_on_the_number_of_ranks(name):
    columns = observed()
    reference = selections(POLICIES[name], columns, 1, **CASES[name])[0]
    for ranks in RANKS:
        parts = selections(POLICIES[name], columns, ranks, **CASES[name])
        for field in ("keep", "weight", "moved_back", "refresh"):
            assert np.array_equal(np.concatenate([getattr(part, field) for part in parts]), getattr(reference, field)), field
        for part in parts:
            assert part.lr_scale == reference.lr_scale and np.array_equal(part.threshold, reference.threshold, equal_nan=True)


def test_random_hides_the_exact_count_anew_each_epoch():
    first, second = (selections(random, observed(), 1, epoch=e, fraction=0.3)[0].keep for e in (0, 1))
    assert (~first).sum() == (~second).sum() == 300 and (first != second).any()
    assert np.array_equal(first, selections(random, observed(), 1, epoch=0, fraction=0.3)[0].keep)
    assert (first != selections(random, observed(), 1, epoch=0, seed=4, fraction=0.3)[0].keep).any()


def test_static_is_the_file():
    columns = observed()
    selection = static(scores_of(columns, range(N), N), 0, 0, SerialComm(), selection="x")
    assert np.array_equal(selection.keep, columns["given"]["keep"]) and np.array_equal(selection.weight, columns["given"]["weight"])


def kakurenbo_on(**changes):
    columns = {**observed(), **changes}
    n = len(columns["importance"])
    parameters = {key: columns.pop(key) for key in ("fraction", "tau", "epochs", "lr", "refresh") if key in columns}
    columns["given"] = {}
    return kakurenbo(scores_of(columns, range(n), n), columns.pop("epoch", 1), 0, SerialComm(), **parameters)


def test_kakurenbo_never_hides_wrong_unsure_or_unknown_samples():
    columns = observed()
    hidden = ~kakurenbo_on(fraction=0.9, tau=0.6).keep
    assert hidden.any()
    assert columns["correct"][hidden].all() and (columns["confidence"][hidden] >= 0.6).all() and not np.isnan(columns["importance"][hidden]).any()


def test_kakurenbo_moves_candidates_back():
    selection = kakurenbo_on(fraction=0.5, tau=0.7)
    assert (~selection.keep).sum() + selection.moved_back.sum() == 500
    assert np.array_equal(selection.refresh, ~selection.keep) and selection.keep[selection.moved_back].all()


def test_kakurenbo_ties_the_rate_to_what_is_really_hidden():  # D7
    selection = kakurenbo_on(fraction=0.5)
    assert selection.lr_scale == pytest.approx(N / selection.keep.sum()) and selection.lr_scale < 2
    assert kakurenbo_on(fraction=0.5, lr="none").lr_scale == 1


def test_kakurenbo_with_equal_losses_hides_the_exact_count():  # D2, D3
    sure = {"importance": np.ones(100, np.float32), "correct": np.ones(100, bool), "confidence": np.ones(100, np.float32)}
    assert (~kakurenbo_on(**sure, fraction=0.3).keep).sum() == 30
    assert (~kakurenbo_on(**sure, fraction=0.001).keep).sum() == 0


def test_kakurenbo_hides_nothing_before_anything_was_observed():
    unknown = {"importance": np.full(50, np.nan, np.float32), "confidence": np.full(50, np.nan, np.float32), "correct": np.zeros(50, bool)}
    assert kakurenbo_on(**unknown, fraction=0.9).keep.all()


def test_kakurenbo_hides_less_in_later_epochs():
    sure = {"importance": np.arange(90, dtype=np.float32), "correct": np.ones(90, bool), "confidence": np.ones(90, np.float32)}
    hidden = [int((~kakurenbo_on(**sure, fraction=0.5, epochs=90, epoch=e).keep).sum()) for e in (1, 29, 30, 59, 60, 79, 80, 89)]
    assert hidden == [45, 45, 36, 36, 27, 27, 18, 18]  # 1, 0.8, 0.6, 0.4 at 30, 60, 80 of 90 epochs


class Classes:
    path, classes, target = "data.h5", ["a", "b"], "2 classes"


class Numbers:
    path, classes, target = "data.h5", [], "float32 targets of shape (2,)"


def test_a_policy_that_needs_classes_says_so():
    with pytest.raises(InputError, match=r"kakurenbo needs class labels, data.h5 has float32 targets of shape \(2,\); "
                                         "policies without: none, random, static"):
        policy_function("kakurenbo", {}, Numbers())


@pytest.mark.parametrize("parameters, message", [
    ({"fraction": 1.0}, r"filter.fraction: .*less than 1, got 1.0"),
    ({"fraction": -0.1}, r"filter.fraction: .*greater than or equal to 0, got -0.1"),
    ({"fractoin": 0.1}, r"filter.fractoin: unknown key; known: fraction, tau"),
    ({"tau": "high"}, r"filter.tau: .*number"),
])
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        policy_function("kakurenbo", parameters, Classes())


def test_unknown_policy_is_refused_with_the_list():
    with pytest.raises(InputError, match="unknown 'kakurembo'; known: kakurenbo, none, random, static"):
        policy_function("kakurembo", {}, Classes())


def test_the_schedule_follows_the_epochs_of_the_run():
    assert policy_function("kakurenbo", {}, Classes(), epochs=12).keywords["epochs"] == 12
    assert policy_function("kakurenbo", {"epochs": 5}, Classes(), epochs=12).keywords["epochs"] == 5
    assert "epochs" not in policy_function("random", {}, Classes(), epochs=12).keywords
