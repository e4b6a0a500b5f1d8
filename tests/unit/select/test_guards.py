"""What stands around every policy: noise guard, class floor, refreshes, learning-rate rules."""

import numpy as np
import pytest
from conftest import RANKS
from observations import N, guard, observed, selections

from hpcfilter.base.errors import InputError
from hpcfilter.select.policies.guards import guarded
from hpcfilter.select.policies.infobatch import infobatch
from hpcfilter.select.policies.selection import Selection
from hpcfilter.select.policies.static import static
from hpcfilter.select.policies.two_sided import two_sided


def test_noise_guard_hides_within_classes_and_spares_the_rare():
    labels = np.where(np.arange(N) < 50, 1, 0)
    importance = np.where(labels == 1, 10, 0) + np.linspace(0, 1, N)
    columns = {"importance": importance.astype(np.float32), "labels": labels,
               "streak": np.full(N, 9, np.uint8), "fresh": np.ones(N, bool)}
    hidden = ~guard(columns=columns, noise=0.1).keep
    assert np.array_equal(np.bincount(labels[hidden]), [95, 5])
    assert guard(columns=columns, noise=0.1, epoch=1).keep.all(), "not before the warm-up is over"
    assert guard(columns={**columns, "streak": np.full(N, 1, np.uint8)},
                 noise=0.1).keep.all(), "not before they have been there for three epochs"


def test_class_floor_brings_back_the_highest():
    columns = {**observed(), "importance": (observed()["labels"] + np.linspace(0, 0.9, N)).astype(np.float32)}
    selection = guard(static, columns, parameters={"fraction": 0.3}, class_floor=0.4)
    sizes, kept = np.bincount(columns["labels"]), np.bincount(columns["labels"][selection.keep])
    assert (kept >= np.ceil(0.4 * sizes)).all() and kept[0] == np.ceil(0.4 * sizes[0])
    first = columns["labels"] == 0
    assert (columns["importance"][first & selection.keep].min()
            > columns["importance"][first & ~selection.keep].max())
    assert np.array_equal(np.flatnonzero(selection.moved_back), np.flatnonzero(first & selection.keep))


@pytest.mark.parametrize("ranks", RANKS)
def test_guards_do_not_depend_on_the_number_of_ranks(ranks):
    for guards in ({"class_floor": 0.8}, {"refresh": "near"}, {"refresh": "slice"}, {"refresh": "all"},
                   {"noise": 0.2, "noise_patience": 1}, {"lr": "effective"}, {"lr": "kept"}):
        def policy(scores, epoch, seed, comm, guards=guards):
            return guarded(lambda *a: infobatch(*a, epochs=20), scores, epoch, seed, comm, **guards)

        reference = selections(policy, observed(), 1, epoch=6)[0]
        parts = selections(policy, observed(), ranks, epoch=6)
        for field in ("keep", "weight", "refresh", "moved_back"):
            assert np.array_equal(np.concatenate([getattr(part, field) for part in parts]),
                                  getattr(reference, field))
        assert {part.lr_scale for part in parts} == {reference.lr_scale}


def test_refresh_rules():
    columns = {**observed(), "importance": np.arange(N, dtype=np.float32)}
    parameters = {"fraction": 0.4}
    hidden = np.arange(N) < 400
    assert not guard(static, columns, parameters=parameters).refresh.any()
    assert np.array_equal(guard(static, columns, parameters=parameters, refresh="all").refresh, hidden)
    near = guard(static, columns, parameters=parameters, refresh="near", refresh_every=5).refresh
    assert np.flatnonzero(near).tolist() == list(range(320, 400))
    slices = [guard(static, columns, epoch=e, parameters=parameters, refresh="slice", refresh_every=5).refresh
              for e in range(1, 6)]
    assert np.array_equal(sum(row.astype(int) for row in slices),
                          hidden.astype(int)), "every hidden sample once in five epochs"


def test_near_means_near_to_the_easy_threshold():
    columns = {"importance": np.arange(100, dtype=np.float32), "streak": np.full(100, 9, np.uint8),
               "fresh": np.ones(100, bool)}
    selection = guard(two_sided, columns, parameters={"low": 0.2, "high": 0.1}, refresh="near",
                      refresh_every=4)
    assert (np.flatnonzero(selection.refresh).tolist() == list(range(15, 20))
            and np.flatnonzero(selection.hard).tolist() == list(range(90, 100)))
    assert np.array_equal(guard(two_sided, columns, parameters={"low": 0.2, "high": 0.1}).refresh,
                          selection.hard), "what is hard may come back"


def test_class_floor_is_exact():
    importance = np.full(100, 1, np.float32)
    importance[1::2] = np.nextafter(np.float32(1), np.float32(2))
    columns = {"importance": importance, "labels": np.zeros(100, int)}
    for floor, kept in ((0.55, 55), (0.07, 7), (0.14, 14), (0.28, 28), (0.561, 57)):
        selection = guard(lambda scores, *_: Selection(np.zeros(100, bool)), columns, class_floor=floor)
        assert (selection.keep.sum() == kept
                and selection.keep[1::2].sum() == min(kept, 50)), "the higher ones first, however near"


def test_the_class_floor_brings_back_noise_last():
    columns = {"importance": np.arange(100, dtype=np.float32), "labels": np.zeros(100, int),
               "streak": np.full(100, 9, np.uint8), "fresh": np.ones(100, bool)}
    selection = guard(static, columns, parameters={"fraction": 0.4}, noise=0.3, class_floor=0.6)
    assert np.flatnonzero(selection.keep).tolist() == list(range(10, 70))


def test_learning_rate_rules():
    weights = {"keep": np.arange(N) % 2 == 0,
               "weight": np.where(np.arange(N) % 4 == 0, 3, 1).astype(np.float32)}
    scale = {rule: guard(static, given=weights, lr=rule).lr_scale
             for rule in ("paper", "kept", "effective", "none")}
    assert scale == {"paper": 1, "kept": 2, "effective": pytest.approx(1000**2 / (500 * 2500)), "none": 1}


@pytest.mark.parametrize("keep, weight, message", [
    (np.ones(N, bool),
     np.full(N, -0.5, np.float32), "weight: got -0.5, expected finite numbers of at least 0"),
    (np.ones(N, bool), np.full(N, np.inf, np.float32), "weight: got inf"),
    (np.ones(3, bool), None, r"keep: got bool of shape \(3,\)"),
    (np.ones(N), np.ones(N, np.float32), "keep: got float64"),
])
def test_a_selection_that_makes_no_sense_is_refused(keep, weight, message):
    with pytest.raises(InputError, match=message):
        guard(lambda *a: Selection(keep, weight))


def test_a_rule_for_the_rate_that_nobody_knows_is_refused():
    with pytest.raises(InputError, match="lr_rule: got 'Kept', expected one of none, kept, effective"):
        guard(lambda *a: Selection(np.ones(N, bool), lr_rule="Kept"))
    with pytest.raises(InputError, match="streak: got float64"):
        guard(lambda *a: Selection(np.ones(N, bool), streak=np.ones(N)))
