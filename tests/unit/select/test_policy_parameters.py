"""The parameters of policies: what is refused, what follows from the run, policies of the user's own, and
what every docstring says."""

import numpy as np
import pytest
from observations import N, observed, scores_of

from hpcfilter.base.errors import InputError
from hpcfilter.comm import SerialComm
from hpcfilter.select.policies import POLICIES, check_score, policy, policy_function
from hpcfilter.select.scores import make_score


def bound(name, parameters=None, classes=True, labels=True, epochs=9):
    return policy_function(name, parameters or {}, classes, labels, "float32 targets", epochs=epochs)


def test_a_policy_that_needs_classes_says_so():
    with pytest.raises(InputError, match="filter.policy: kakurenbo needs class labels, got float32 targets; "
                                         "policies without: none, random, static"):
        bound("kakurenbo", classes=False, labels=False)
    for parameters in ({"class_floor": 0.1}, {"per_class": True}):
        with pytest.raises(InputError, match="needs class labels, got float32 targets"):
            bound("static", parameters, classes=False, labels=False)


@pytest.mark.parametrize("name, parameters, message", [
    ("two_sided", {"low": 0.6, "high": 0.5}, "filter.low and filter.high: got 1.1 together, expected "
     "less than 1"), ("two_sided", {"noise": 0.1}, "filter.noise: two_sided hides a hard tail of its own"),
    ("forget", {"after": 9}, "filter.after: unknown key; known: fraction, per_class"),
    ("selective_backprop", {"reweight": True}, "filter.reweight: needs filter.least above 0"),
    ("infobatch", {"r": 1.0}, "filter.r: .*less than 1"),
    ("none", {"fraction": 0.1}, "filter.fraction: unknown key; known: noise"),
    ("static", {"restart": False}, "filter.restart: unknown key; known: selection, fraction, per_class"),
    ("custom:named_like_a_guard", {}, "has the parameters noise, which are the names of guards"),
    ("seta", {"window": 0}, "filter.window"), ("none", {"refresh": "some"}, "filter.refresh"),
    ("none", {"class_floor": 1.1}, "filter.class_floor"),
])
def test_parameters_that_do_not_fit_are_refused(name, parameters, message):
    with pytest.raises(InputError, match=message):
        bound(name, parameters)


def test_a_hard_tail_needs_a_score_that_a_look_can_give():
    for name, parameters in (("bls", {"noise": 0.1}), ("two_sided", {})):
        policy, values = bound(name, parameters)
        with pytest.raises(InputError, match="score.name: batch_loss is taken while a network trains, "
                                             "so what is hidden as too hard could never"):
            check_score(name, values, policy.keywords, make_score("batch_loss", {}, True, ""))


def test_a_schedule_needs_the_number_of_epochs():
    with pytest.raises(InputError, match="filter.epochs: missing"):
        policy_function("kakurenbo", {}, True, True, "")


def test_a_policy_of_the_users_own():
    check_score("custom:every_third", {"offset": 0}, {"noise": 0}, make_score("difference", {}, True, ""))
    policy, _ = bound("custom:every_third", {"offset": 1, "lr": "kept"})
    selection = policy(scores_of(observed()), 0, 0, SerialComm())
    assert np.flatnonzero(selection.keep)[:3].tolist() == [1, 4, 7] and selection.lr_scale == N / 333


@pytest.mark.parametrize("parameters, message", [
    ({"fraction": 1.0}, r"filter.fraction: .*less than 1, got 1.0"),
    ({"fraction": -0.1}, r"filter.fraction: expected 0 or more, got -0.1"),
    ({"fractoin": 0.1}, r"filter.fractoin: unknown key; known: epochs, fraction, tau"),
    ({"tau": "high"}, r"filter.tau: .*number"),
])
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        bound("kakurenbo", parameters)


def test_unknown_policy_is_refused_with_the_list():
    with pytest.raises(InputError, match="unknown 'kakurembo'; known: bls, ccs, dyn_unc, es, forget, "
                                         "infobatch, kakurenbo, none"):
        bound("kakurembo")


def test_the_schedule_follows_the_epochs_of_the_run():
    assert bound("kakurenbo", epochs=12)[1]["epochs"] == 12
    assert bound("kakurenbo", {"epochs": 5}, epochs=12)[1]["epochs"] == 5
    assert "epochs" not in bound("random", epochs=12)[1]


def test_every_docstring_says_what_it_keeps_and_whether_it_is_unbiased():
    for name, function in POLICIES.items():
        text = " ".join(function.__doc__.split())
        assert "State:" in text and ("iased" in text), name


def test_a_cut_needs_a_phase_before_it():
    for name in ("forget", "ccs", "dyn_unc", "static"):
        policy, values = bound(name)
        score = make_score("dyn_unc", {}, True, "")
        with pytest.raises(InputError, match=f"filter.policy: {name} cuts once, by what earlier epochs have "
                                             "shown; expected a phase before its own"):
            check_score(name, values, policy.keywords, score)
        with pytest.raises(InputError, match="filter.policy: the score dyn_unc is known after 10 epochs, "
                                             "got a cut after 5"):
            check_score(name, values, policy.keywords, score, before=5)
        check_score(name, values, policy.keywords, score, before=10)
    policy, values = bound("static")
    check_score("static", values, policy.keywords, make_score("loss", {}, True, ""), given=("keep",))


def wrong(**facts):
    """A policy with these facts, as a file that is imported would make it."""
    @policy(**facts)
    def mine(scores, epoch, seed, comm, *, table: str = ""):
        pass

    return mine


def test_the_facts_of_a_policy_are_checked_when_its_file_is_imported():
    assert (wrong(score="aum").facts.score == "aum"
            and wrong(given=("table", ("loss",))).facts.given == ("table", ("loss",)))
    with pytest.raises(TypeError, match="needs_clases"):
        wrong(needs_clases=True)
    with pytest.raises(TypeError, match="mine: given: it has no parameter selection"):
        wrong(given=("selection", ("keep",)))
    with pytest.raises(TypeError, match=r"takes \(scores, seed\), expected \(scores, epoch, seed, comm, \*, "
                                        r"parameters\)"):
        policy()(lambda scores, seed: None)


def test_facts_that_hang_on_the_function_name_the_decorator(monkeypatch):
    import custom

    monkeypatch.setattr(custom.every_third, "score", "aum", raising=False)
    with pytest.raises(InputError, match=r"every_third has the attribute score, expected the decorator "
                                         r"@hpcfilter.policy\(score=...\)"):
        bound("custom:every_third")
