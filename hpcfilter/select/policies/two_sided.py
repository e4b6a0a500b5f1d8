"""Drop the redundant easy tail and the noisy hard tail: the reading of the founding paper (arXiv 2012.09272)
that serves smoothness and time."""

from typing import Annotated

import numpy as np
from pydantic import Field

from hpcfilter.base.shares import Fraction
from hpcfilter.select.policies.guards import hard_tail
from hpcfilter.select.policies.policy import policy
from hpcfilter.select.policies.ranking import hide_lowest
from hpcfilter.select.policies.selection import Selection


def _tails_fit(parameters):
    total = parameters["low"] + parameters["high"]
    return None if total < 1 else f"filter.low and filter.high: got {total} together, expected less than 1"


@policy(problem=_tails_fit, own_tail=True)
def two_sided(scores, epoch, seed, comm, *, low: Fraction = 0.25, high: Fraction = 0.05,
              warmup: Annotated[int, Field(ge=0)] = 2, patience: Annotated[int, Field(ge=1, le=255)] = 3,
              per_class: bool = False):
    """Hide the floor(low * N) lowest scores, and of the floor(high * N) highest those that have been there at
    `patience` observations in a row, counted from epoch `warmup`, and that get a forward pass at the end of
    each epoch, so that they can come back; with per_class both tails are cut in each class. The paper gives
    no rule; this one is ours.

    The hard tail is where wrong labels are, and where rare classes are: per_class, or class_floor, keeps the
    rare. State: the streak of each sample in the hard tail, 1 B. Biased. low = high = 0 is the baseline.

    Take it when many labels are wrong: it hides the hardest samples, too. Beware of rare classes, which may
    be hard as well. It costs a forward pass over the hidden hard samples in each epoch.
    """
    easy, threshold = hide_lowest(scores, scores.importance, low, comm, per_class)
    rest = np.where(easy, np.float32(np.nan), scores.importance)  # with equal scores the tails must not meet
    hard, streak = hard_tail(scores, rest, high, epoch, comm, warmup, patience, per_class)
    return Selection(~(easy | hard), threshold=threshold, refresh=hard, hard=hard, streak=streak)
