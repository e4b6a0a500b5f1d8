"""KAKURENBO against its equations."""

import numpy as np
import pytest
from observations import N, guard, observed, scores_of

from hpcfilter.comm import SerialComm
from hpcfilter.select.policies.kakurenbo import kakurenbo


def kakurenbo_on(**changes):
    columns = {**observed(), **changes}
    parameters = {"epochs": 100,
                  **{key: columns.pop(key) for key in ("fraction", "tau", "epochs") if key in columns}}
    epoch = columns.pop("epoch", 1)
    return kakurenbo(scores_of(columns), epoch, 0, SerialComm(), **parameters)


def test_kakurenbo_never_hides_wrong_unsure_or_unknown_samples():
    columns = observed()
    hidden = ~kakurenbo_on(fraction=0.9, tau=0.6).keep
    assert hidden.any()
    assert (columns["correct"][hidden].all() and (columns["confidence"][hidden] >= 0.6).all()
            and not np.isnan(columns["importance"][hidden]).any())


def test_kakurenbo_moves_candidates_back():
    selection = kakurenbo_on(fraction=0.5, tau=0.7)
    assert (~selection.keep).sum() + selection.moved_back.sum() == 500
    assert np.array_equal(selection.refresh, ~selection.keep) and selection.keep[selection.moved_back].all()


def test_kakurenbo_ties_the_rate_to_what_is_really_hidden():  # D7
    selection = kakurenbo_on(fraction=0.5)
    assert selection.lr_rule == "kept"
    for guards in ({}, {"class_floor": 0.9}, {"noise": 0.2, "noise_patience": 1}):
        columns = {**observed(), "streak": np.full(N, 9, np.uint8), "fresh": np.ones(N, bool)}
        selection = guard(kakurenbo, columns, parameters={"epochs": 100, "fraction": 0.5}, **guards)
        assert selection.lr_scale == pytest.approx(N / selection.keep.sum())


def test_kakurenbo_with_equal_losses_hides_the_exact_count():  # D2, D3
    sure = {"importance": np.ones(100, np.float32), "correct": np.ones(100, bool),
            "confidence": np.ones(100, np.float32), "labels": None}
    assert (~kakurenbo_on(**sure, fraction=0.3).keep).sum() == 30
    assert (~kakurenbo_on(**sure, fraction=0.001).keep).sum() == 0


def test_kakurenbo_hides_nothing_before_anything_was_observed():
    nan = np.full(50, np.nan, np.float32)
    unknown = {"importance": nan, "confidence": nan, "correct": np.zeros(50, bool), "labels": None}
    assert kakurenbo_on(**unknown, fraction=0.9).keep.all()


def test_kakurenbo_counts_exactly():
    """0.7 * 0.8 is not 0.56 in floating point."""
    sure = {"importance": np.arange(1000, dtype=np.float32), "correct": np.ones(1000, bool),
            "confidence": np.ones(1000, np.float32), "labels": None}
    assert (~kakurenbo_on(**sure, fraction=0.7, epochs=90, epoch=30).keep).sum() == 560


def test_kakurenbo_hides_less_in_later_epochs():
    sure = {"importance": np.arange(90, dtype=np.float32), "correct": np.ones(90, bool),
            "confidence": np.ones(90, np.float32), "labels": None}
    hidden = [int((~kakurenbo_on(**sure, fraction=0.5, epochs=90, epoch=e).keep).sum())
              for e in (1, 29, 30, 59, 60, 79, 80, 89)]
    assert hidden == [45, 45, 36, 36, 27, 27, 18, 18]  # 1, 0.8, 0.6, 0.4 at 30, 60, 80 of 90 epochs
