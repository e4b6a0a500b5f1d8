"""FORGET: count forgetting events, hide what is never forgotten, begin anew (Toneva et al., arXiv 1812.05159; restart as in arXiv 2310.10102)."""

import numpy as np

from hpcfilter.base.randomness import uniform
from hpcfilter.base.shares import Count, Fraction
from hpcfilter.select.policies.ranking import after_fits, cuts_after, hide_for_good
from hpcfilter.select.policies.selection import Selection

NEVER = 2.0**16  # events that stand for those of a sample that was never predicted right


def forget(scores, epoch, seed, comm, *, epochs: Count, fraction: Fraction = 0.3, after: Count = 20, restart: bool = True, per_class: bool = False):
    """After `after` epochs hide the floor(fraction * N) samples with the fewest forgetting events for good; with restart the network and the
    learning-rate schedule begin anew with the other `epochs - after` epochs.

    Equal counts are settled by a draw. A sample that was never predicted right counts as the hardest, not as never forgotten. State: that of the
    score `forgetting`, 6 B. Biased. fraction = 0 is the baseline, without a restart.
    """
    if epoch < after or not fraction:
        return Selection(np.ones(len(scores.owned), bool))
    tie = uniform(seed, 0, np.asarray(scores.owned), 1, "forget")[:, 0]  # counts are whole numbers: by index, sorted data would lose whole classes
    count = np.where(np.isposinf(scores.importance), NEVER, scores.importance)
    hidden, threshold = hide_for_good(scores, (count + tie).astype(np.float32), fraction, comm, per_class)
    return Selection(~hidden, threshold=np.floor(threshold), frozen=True, began=after if restart else 0)


forget.score, forget.problem, forget.needs_classes, forget.cuts_after = "forgetting", after_fits, True, cuts_after
