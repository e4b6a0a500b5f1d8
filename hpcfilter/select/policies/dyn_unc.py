"""Dyn-Unc: hide the samples whose prediction never wavers (He et al., arXiv 2306.05175)."""

import numpy as np

from hpcfilter.base.shares import Fraction
from hpcfilter.select.policies.policy import policy
from hpcfilter.select.policies.ranking import hide_for_good, hides
from hpcfilter.select.policies.selection import Selection


@policy(score="dyn_unc", needs_classes=True, once=hides, anew=True)
def dyn_unc(scores, epoch, seed, comm, *, fraction: Fraction = 0.25, per_class: bool = False):
    """Hide the floor(fraction * N) samples of lowest dynamic uncertainty for good, the surely right and the
    surely wrong, as earlier phases have shown.

    The paper takes a whole training run for the scores, and begins anew with what is left: a [[phase]] before
    this one, which has weights = "fresh". The earlier phases must have at least the score's window (10) of
    epochs, or nothing is known to hide. State: that of the score `dyn_unc`, 52 B at a window of 10. Biased.
    fraction = 0 is the baseline.

    Take it to drop for good both what is always right and what is always wrong. It costs the epochs of the
    phase before, in which all samples train.
    """
    if not fraction:
        return Selection(np.ones(len(scores.owned), bool))
    hidden, threshold = hide_for_good(scores, scores.importance, fraction, comm, per_class)
    return Selection(~hidden, threshold=threshold, frozen=True)

