"""FORGET: count forgetting events, hide what is never forgotten, begin anew (Toneva et al., arXiv 1812.05159;
restart as in arXiv 2310.10102)."""

import numpy as np

from hpcfilter.base.randomness import uniform
from hpcfilter.base.shares import Fraction
from hpcfilter.select.policies.policy import policy
from hpcfilter.select.policies.ranking import hide_for_good, hides
from hpcfilter.select.policies.selection import Selection

NEVER = 2.0**16  # events that stand for those of a sample that was never predicted right


@policy(score="forgetting", needs_classes=True, once=hides, anew=True)
def forget(scores, epoch, seed, comm, *, fraction: Fraction = 0.3, per_class: bool = False):
    """Hide the floor(fraction * N) samples with the fewest forgetting events for good, as earlier
    phases have counted them.

    The papers begin anew with what is left: [[phase]] epochs = 20, then a [[phase]] with weights =
    "fresh" and this policy. Equal counts are settled by a draw. A sample that was never predicted right
    counts as the hardest, not as never forgotten. State: that of the score `forgetting`, 6 B. Biased.
    fraction = 0 is the baseline.

    Take it to find one smaller data set for a whole training. It costs the epochs of the phase before, in
    which all samples train.
    """
    if not fraction:
        return Selection(np.ones(len(scores.owned), bool))
    # counts are whole numbers: by index, sorted data would lose whole classes
    tie = uniform(seed, 0, np.asarray(scores.owned), 1, "forget")[:, 0]
    count = np.where(np.isposinf(scores.importance), NEVER, scores.importance)
    hidden, threshold = hide_for_good(scores, (count + tie).astype(np.float32), fraction, comm, per_class)
    return Selection(~hidden, threshold=np.floor(threshold), frozen=True)

