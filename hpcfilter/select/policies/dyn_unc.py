"""Dyn-Unc: hide the samples whose prediction never wavers (He et al., arXiv 2306.05175)."""

import numpy as np

from hpcfilter.base.shares import Count, Fraction
from hpcfilter.select.policies.ranking import after_fits, cuts_after, hide_for_good
from hpcfilter.select.policies.selection import Selection


def dyn_unc(scores, epoch, seed, comm, *, epochs: Count, fraction: Fraction = 0.25, after: Count = 20, restart: bool = True, per_class: bool = False):
    """After `after` epochs hide the floor(fraction * N) samples of lowest dynamic uncertainty for good, the surely right and the surely wrong;
    with restart the network and the learning-rate schedule begin anew with the other `epochs - after` epochs.

    The paper takes a whole training run for the scores; `after` is ours. It must be at least the score's window (10), or nothing is known to hide.
    State: that of the score `dyn_unc`, 52 B at a window of 10. Biased. fraction = 0 is the baseline, without a restart.
    """
    if epoch < after or not fraction:
        return Selection(np.ones(len(scores.owned), bool))
    hidden, threshold = hide_for_good(scores, scores.importance, fraction, comm, per_class)
    return Selection(~hidden, threshold=threshold, frozen=True, began=after if restart else 0)


dyn_unc.score, dyn_unc.problem, dyn_unc.needs_classes, dyn_unc.cuts_after = "dyn_unc", after_fits, True, cuts_after
