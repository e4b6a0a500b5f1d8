"""CCS: drop the hardest, then cover all difficulties evenly (Zheng et al., ICLR 2023, arXiv
2210.15809, algorithm 1)."""

from typing import Annotated

import numpy as np
from pydantic import Field

from hpcfilter.base.shares import Fraction, share
from hpcfilter.select.policies.policy import policy
from hpcfilter.select.policies.ranking import draw_once, hide_lowest, hides
from hpcfilter.select.policies.selection import Selection
from hpcfilter.select.threshold import lowest_by_group

GROUPS = 8192  # classes times strata at most


@policy(score="aum", needs_classes=True, once=hides, anew=True)
def ccs(scores, epoch, seed, comm, *, fraction: Fraction = 0.5, beta: Fraction = 0.1,
        strata: Annotated[int, Field(ge=1, le=1000)] = 50, per_class: bool = False):
    """Keep N - floor(fraction * N) samples for good: the floor(beta * N) hardest go, but never more than the
    fraction allows; the scores of the others are cut into `strata` of equal width, and each stratum gives the
    same number of samples, drawn at random; a small stratum gives all it has, and what it lacks is shared by
    the larger ones. With per_class all of this happens in each class.

    There are at most 8192 strata in all, so that a cut costs at most 8 MiB per rank; for 1000 classes that
    makes 8 of each. The paper takes a whole training run for the scores, and begins anew with what is left: a
    [[phase]] before this one, which has weights = "fresh". State: that of the score `aum`, 8 B. Biased
    towards the rare difficulties. fraction = 0 is the baseline.

    Take it to keep half of the data or less: easy samples stay, too. It costs the epochs of the phase before,
    in which all samples train.
    """
    keep = np.ones(len(scores.owned), bool)
    if not fraction:
        return Selection(keep)
    known = ~np.isnan(scores.importance)
    if per_class:
        strata = max(1, min(strata, GROUPS // scores.classes))
    hardest, _ = hide_lowest(scores, -scores.importance, min(beta, fraction), comm, per_class)
    left = known & ~hardest
    group = scores.labels if per_class else np.zeros(len(keep), np.int64)
    classes = scores.classes if per_class else 1
    stratum = _strata(scores.importance[left], group[left], classes, strata, comm)
    size = comm.sum(np.stack([np.bincount(group, minlength=classes),
                              np.bincount(group[~known], minlength=classes)]).astype(np.int64))
    # what was never observed is kept
    budget = [int(total - share(fraction, int(total)) - unknown) for total, unknown in size.T]
    counts = comm.sum(np.bincount(stratum, minlength=classes * strata).astype(np.int64)).reshape(
        classes, strata)
    wanted = np.concatenate([shares(row, max(0, total)) for row, total in zip(counts, budget, strict=True)])
    keep = ~known
    keep[left] = lowest_by_group(draw_once(scores, seed, "ccs")[left], stratum, wanted, comm)
    return Selection(keep, frozen=True)


def _strata(importance, group, classes, strata, comm):
    """The stratum of each sample, numbered through the classes. importance: (m,), no NaN;
    group: (m,). Returns int64 (m,)."""
    low, high = np.full(classes, np.inf), np.full(classes, -np.inf)
    finite = np.isfinite(importance)
    np.minimum.at(low, group[finite], importance[finite])
    np.maximum.at(high, group[finite], importance[finite])
    low, high = comm.min(low)[group], comm.max(high)[group]
    width = np.where(high > low, (high - low) / strata, 1)
    place = np.where(finite, (importance.astype(np.float64) - low) / width,
                     np.where(importance > 0, strata, 0))
    return group * strata + np.clip(place, 0, strata - 1).astype(np.int64)


def shares(counts, budget):
    """Share a budget among strata, the smallest first: each gives an equal part of what is
    left, or all it has.

    counts: int64 (strata,). budget: int. Returns int64 (strata,), which sums to min(budget, counts.sum()).
    """
    taken = np.zeros(len(counts), np.int64)
    order = np.argsort(counts, kind="stable")
    for done, stratum in enumerate(order):
        taken[stratum] = min(counts[stratum], budget // (len(order) - done))
        budget -= taken[stratum]
    return taken

