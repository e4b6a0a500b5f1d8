"""Policies one by one, against their equations. What all of them must do is in `laws`, the defects of public
implementations in test_defects."""

import numpy as np
import pytest
from conftest import RANKS
from observations import N, observed, scores_of, select, selections

from hpcfilter.base.errors import InputError
from hpcfilter.comm import SerialComm
from hpcfilter.select.policies import given_file
from hpcfilter.select.policies.bls import bls
from hpcfilter.select.policies.ccs import ccs, shares
from hpcfilter.select.policies.dyn_unc import dyn_unc
from hpcfilter.select.policies.es import es
from hpcfilter.select.policies.forget import forget
from hpcfilter.select.policies.guards import guarded
from hpcfilter.select.policies.infobatch import infobatch
from hpcfilter.select.policies.kakurenbo import kakurenbo
from hpcfilter.select.policies.random import random
from hpcfilter.select.policies.rho import rho
from hpcfilter.select.policies.selective_backprop import selective_backprop
from hpcfilter.select.policies.seta import kmeans, seta
from hpcfilter.select.policies.static import static
from hpcfilter.select.policies.two_sided import two_sided
from hpcfilter.select.threshold import Cells

AWKWARD = {
    "random": (random, {"fraction": 0.37}),
    "kakurenbo": (kakurenbo, {"fraction": 0.4, "tau": 0.5, "epochs": 9}),
    "kakurenbo by class": (kakurenbo, {"fraction": 0.4, "tau": 0.5, "epochs": 9, "per_class": True}),
    "infobatch": (infobatch, {"epochs": 9}), "seta": (seta, {"epochs": 9, "window": 0.4}),
    "selective_backprop": (selective_backprop, {"beta": 2.0}), "es": (es, {"epochs": 9}), "ccs": (ccs, {}),
    "ccs by class": (ccs, {"per_class": True, "fraction": 0.9}),
    "two_sided": (two_sided, {"warmup": 0, "patience": 1, "high": 0.2}), "forget": (forget, {}),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_ties_and_unknown_scores_do_not_depend_on_the_number_of_ranks(name):
    policy, parameters = AWKWARD[name]
    for importance in (observed()["importance"], np.ones(N, np.float32), np.full(N, np.nan, np.float32)):
        if name == "forget" and np.isnan(importance).all():
            continue  # refused: test_a_cut_for_good_needs_scores
        columns = {**observed(), "importance": importance}
        reference = select(policy, columns, **parameters)
        for ranks in RANKS:
            parts = selections(policy, columns, ranks, **parameters)
            for field in ("keep", "weight", "moved_back", "refresh"):
                assert np.array_equal(np.concatenate([getattr(part, field) for part in parts]),
                                      getattr(reference, field)), field
            for part in parts:
                assert (part.lr_rule == reference.lr_rule
                        and np.array_equal(part.threshold, reference.threshold, equal_nan=True))


def test_random_hides_the_exact_count_anew_each_epoch():
    first, second = (select(random, epoch=e, fraction=0.3).keep for e in (0, 1))
    assert (~first).sum() == (~second).sum() == 300 and (first != second).any()
    assert np.array_equal(first, select(random, epoch=0, fraction=0.3).keep)
    assert (first != select(random, epoch=0, seed=4, fraction=0.3).keep).any()


def test_random_without_replacement_walks_through_all():
    epochs = [select(random, epoch=e, fraction=0.75, replacement=False).keep for e in range(8)]
    assert all(keep.sum() == 250 for keep in epochs)
    assert ((sum(keep.astype(int) for keep in epochs[:4]) == 1).all()
            and (sum(keep.astype(int) for keep in epochs[4:]) == 1).all())
    assert (epochs[0] != epochs[4]).any(), "a new permutation"


def test_static_is_the_file():
    given = {"keep": np.arange(N) % 3 > 0, "weight": np.linspace(0, 1, N, dtype=np.float32)}
    selection = select(static, given=given)
    assert np.array_equal(selection.keep, given["keep"]) and np.array_equal(selection.weight, given["weight"])


def test_static_cuts_once_and_freezes():
    cut = select(static, epoch=0, fraction=0.3)
    lowest = np.sort(observed()["importance"][~cut.keep])
    assert (cut.frozen and len(lowest) == 300
            and lowest[-1] == np.float32(cut.threshold) <= np.nanmin(observed()["importance"][cut.keep]))
    again = select(static, epoch=7, fraction=0.3)
    assert (np.array_equal(again.keep, cut.keep)
            and again.frozen), "from the first epoch of its phase to the last"


def test_per_class_hides_the_same_share_of_each():
    columns = {**observed(), "importance": (observed()["labels"] + np.linspace(0, 0.9, N)).astype(np.float32)}
    for policy in (static, two_sided):
        parameters = {"fraction": 0.25} if policy is static else {"low": 0.25, "high": 0.0}
        hidden = ~select(policy, columns, per_class=True, **parameters).keep
        sizes = np.bincount(columns["labels"])
        assert np.array_equal(np.bincount(columns["labels"][hidden]), sizes // 4)
        hidden = ~select(policy, columns, **parameters).keep
        assert (columns["labels"][hidden] <= 1).all(), "without it the class of low scores pays for all"


def test_two_sided_hides_the_hard_tail_only_after_a_while():
    columns = {"importance": np.arange(100, dtype=np.float32)}
    scores, kept = scores_of(columns), []
    for epoch in range(6):
        selection = two_sided(scores, epoch, 0, SerialComm(), low=0.2, high=0.1, warmup=1, patience=3)
        kept.append(np.flatnonzero(selection.keep))
        scores.advance(selection)
        seen = np.flatnonzero(selection.keep | selection.refresh)  # as a run observes them
        values = np.arange(100, dtype=np.float32)
        if epoch >= 3:
            values[[95, 50]] = 0.5, 99.5  # 95 is learnt after all, 50 turns out to be hard
        scores.update(seen, {"value": values[seen]})
    assert [len(row) for row in kept] == [80, 80, 80, 70, 71, 71] and kept[3].max() == 89
    assert 19 in kept[5] and 95 not in kept[5], "what is easy now is hidden as such"
    assert 50 in kept[5] and {94, 96} & set(kept[5]) == set()


def test_a_streak_counts_observations_and_not_epochs():
    """Of samples that nothing looks at again, one bad look stays one."""
    scores = scores_of({"importance": np.arange(100, dtype=np.float32), "fresh": np.ones(100, bool)})
    for epoch in range(6):
        selection = guarded(lambda *a: random(*a, fraction=0.5), scores, epoch, 0, SerialComm(), noise=0.1,
                            noise_warmup=0, noise_patience=3)
        scores.advance(selection)
        assert scores.streak.max() == 1 and not selection.hard.any()


def test_equal_scores_do_not_make_the_tails_meet():
    selection = select(two_sided, {"importance": np.ones(100, np.float32), "fresh": np.ones(100, bool)},
                       low=0.3, high=0.2, warmup=0, patience=1)
    assert (~selection.keep).sum() == 50


def test_infobatch_keeps_what_is_above_the_mean_and_weighs_up_the_rest():
    columns = observed()
    columns["importance"][np.isnan(columns["importance"])] = 0.1
    selection = select(infobatch, columns, epochs=9, r=0.5)
    mean = columns["importance"].astype(np.float64).mean()
    below = columns["importance"] < mean
    assert (selection.threshold == pytest.approx(mean, rel=1e-12) and selection.keep[~below].all()
            and (selection.weight[~below] == 1).all())
    kept = selection.keep & below
    assert (kept.sum() == below.sum() - below.sum() // 2
            and np.allclose(selection.weight[kept], below.sum() / kept.sum()))
    assert select(infobatch, columns, epoch=8, epochs=9, r=0.5).keep.all(), "the last eighth trains all"


def test_infobatch_is_unbiased_over_the_epochs():
    columns = observed()
    total = sum(np.where((s := select(infobatch, columns, epoch=e, epochs=10**4, r=0.7)).keep, s.weight, 0)
                for e in range(1000)) / 1000
    assert (abs(total.mean() - 1) < 1e-5
            and np.abs(total - 1).max() < 0.25), "each sample's weight is 1 in the mean"


def test_seta_slides_its_window_from_easy_to_hard():
    columns = {"importance": np.arange(900, dtype=np.float32)}
    rows = [np.flatnonzero(select(seta, columns, epoch=e, epochs=100, r=0.0, groups=3, window=0.34).keep)
            for e in range(4)]
    assert [abs(row.min() - wanted) < 5
            for row, wanted in zip(rows, (0, 300, 600, 0), strict=True)] == [True] * 4
    assert all(abs(len(row) - 300) < 5 for row in rows)
    assert len(np.flatnonzero(select(seta, columns, epoch=99, epochs=100, r=0.1).keep)) == 810, (
        "the last eighth has no window")


def test_kmeans_finds_the_groups():
    values = np.concatenate([np.full(5, 0.0), np.full(3, 1.0), np.full(9, 10.0)])
    borders, counts = np.unique(values, return_counts=True)
    assert kmeans(Cells(borders.astype(np.float32), np.append(counts, 0)), 2).tolist()[:3] == [0, 0, 1]
    assert kmeans(Cells(np.zeros(0, np.float32), np.array([0])), 3).tolist() == [0]


def test_bls_is_its_base_on_batch_losses():
    columns = observed()
    assert bls.facts.score == "batch_loss"
    for base, policy in (("infobatch", infobatch), ("seta", seta)):
        assert np.array_equal(select(bls, columns, base=base, epochs=9, r=0.2).keep,
                              select(policy, columns, epochs=9, r=0.2).keep)


@pytest.mark.parametrize("beta", [0.25, 1.0, 3.0])
def test_selective_backprop_keeps_its_share(beta):
    importance = np.random.default_rng(0).exponential(size=20000).astype(np.float32)
    keep = select(selective_backprop, {"importance": importance}, beta=beta).keep
    assert keep.mean() == pytest.approx(1 / (1 + beta), abs=0.015)
    order = np.argsort(importance)
    for tenth in range(10):
        cdf = np.linspace(tenth / 10, (tenth + 1) / 10, 100)
        assert (keep[order[tenth * 2000 : (tenth + 1) * 2000]].mean()
                == pytest.approx((cdf**beta).mean(), abs=0.05))


def test_selective_backprop_reweighted_is_unbiased():
    columns = {"importance": np.random.default_rng(0).exponential(size=500).astype(np.float32)}
    rows = [select(selective_backprop, columns, epoch=e, beta=2.0, least=0.2, reweight=True)
            for e in range(600)]
    assert sum((row.keep * row.weight).sum() for row in rows) / 600 / 500 == pytest.approx(1, abs=0.01)


def test_forget_settles_equal_counts_by_a_draw():
    """Sorted by class, with most counts equal: no class pays for the order of the data."""
    labels = np.repeat(np.arange(10), 100)
    importance = (np.random.default_rng(0).random(1000) > 0.6).astype(np.float32)
    hidden = ~select(forget, {"importance": importance, "labels": labels}, fraction=0.3).keep
    assert np.bincount(labels[hidden], minlength=10).min() > 15 and not importance[hidden].any()
    # hardly anything was learnt
    importance = np.where(np.random.default_rng(0).random(1000) > 0.9, 0, np.inf).astype(np.float32)
    selection = select(forget, {"importance": importance, "labels": labels}, fraction=0.3)
    assert (np.bincount(labels[~selection.keep], minlength=10).min() > 10 and (~selection.keep).sum() == 300
            and selection.threshold == 2**16)


def test_a_cut_for_good_needs_scores():
    unknown = {"importance": np.where(np.arange(N) < 900, np.nan, 1).astype(np.float32)}
    for policy in (static, dyn_unc):
        with pytest.raises(InputError, match="100 of 1000 samples have a score when 300 are to be hidden for "
                                             "good; lengthen the phases before"):
            select(policy, unknown, fraction=0.3)


def test_ccs_covers_the_strata_evenly():
    rng = np.random.default_rng(0)
    importance = np.concatenate([rng.uniform(0, 1, 900), rng.uniform(1, 10, 90),
                                 rng.uniform(90, 99, 10)]).astype(np.float32)
    keep = select(ccs, {"importance": importance}, fraction=0.8, beta=0.01, strata=10).keep
    assert keep.sum() == 200 and not keep[990:].any(), "the hardest hundredth is gone"
    counts = np.histogram(importance[:990], 10, weights=keep[:990].astype(int))[0]
    sizes = np.histogram(importance[:990], 10)[0]
    assert ((counts[1:] == sizes[1:]).all()
            and counts[0] == 200 - sizes[1:].sum()), "small strata give all, the largest what is left"


def test_shares_of_the_strata():
    assert shares(np.array([5, 100, 0, 40]), 60).tolist() == [5, 28, 0, 27]
    assert shares(np.array([5, 3]), 100).tolist() == [5, 3] and shares(np.array([4, 4]), 0).tolist() == [0, 0]


def test_rho_ranks_by_what_is_left_to_learn():
    columns, given = ({"importance": np.array([3, 3, 1, 2, 5], np.float32)},
                      {"loss": np.array([3, 0, 0.5, np.nan, 4.8], np.float32)})
    selection = select(rho, columns, given=given, fraction=0.4)
    assert (np.flatnonzero(~selection.keep).tolist() == [0, 4]
            and np.array_equal(selection.refresh, ~selection.keep))
    with pytest.raises(InputError, match="filter.irreducible: missing; expected a table made by hpcfilter, "
                                         "with the column loss"):
        given_file("rho", {"irreducible": None})
    assert given_file("static", {"selection": None})[0] is None


def test_es_draws_in_proportion_and_without_replacement():
    importance = np.repeat([1.0, 2.0, 4.0], 2000).astype(np.float32)
    keep = select(es, {"importance": importance}, epochs=20, epoch=5, fraction=0.9).keep
    assert keep.sum() == 600
    first, second, third = (keep[i * 2000 : (i + 1) * 2000].mean() for i in range(3))
    assert second / first == pytest.approx(2, rel=0.35) and third / first == pytest.approx(4, rel=0.35)
    assert select(es, epochs=20, epoch=0).keep.all() and select(es, epochs=20, epoch=19).keep.all()
    importance[:3000] = 0
    keep = select(es, {"importance": importance}, epochs=20, epoch=5, fraction=0.3).keep
    assert keep[3000:].all() and 300 < keep[:1500].sum() < 900, ("a weight of zero is never drawn before "
                                                                 "others, and those of no weight by chance")
    assert [epoch for epoch in range(100)
            if select(es, epochs=100, epoch=epoch, ends=0.07).keep.all()] == [*range(7), *range(93, 100)]
    for epochs in (3, 5, 19, 30):
        assert (select(es, epochs=epochs, epoch=epochs - 1).keep.all()
                and not select(es, epochs=epochs, epoch=1 + epochs // 20).keep.all())
