"""Evolved Sampling: draw samples in proportion to an evolved loss, without replacement (ES and its set-level
form ESWP, arXiv 2509.23461)."""

from typing import Annotated

import numpy as np
from pydantic import Field

from hpcfilter.base.randomness import uniform
from hpcfilter.base.shares import Count, Fraction, share_up
from hpcfilter.select.policies.policy import policy
from hpcfilter.select.policies.ranking import hide_lowest
from hpcfilter.select.policies.selection import Selection


@policy(score="evolved")
def es(scores, epoch, seed, comm, *, epochs: Count, fraction: Fraction = 0.3,
       ends: Annotated[float, Field(ge=0, le=0.5)] = 0.05):
    """Keep N - floor(fraction * N) samples, drawn in proportion to w_i (the score `evolved`); all train in
    the first and last ceil(ends * epochs) epochs.

    The draw is an exponential race (Efraimidis and Spirakis 2006): sample i arrives at -log(u_i) / w_i, and
    the last to arrive are hidden, which is one exact threshold. ES draws within each batch; this is its
    epoch-level form. The value of `ends` is not verified against the paper. State: that of the score, 4 B.
    Weights 1: biased. fraction = 0 is the baseline. Samples never observed are kept.

    Take it to draw a fixed share of the samples by their losses, with any kind of target. It costs no extra
    pass.
    """
    whole = share_up(ends, epochs)
    if not whole <= epoch < epochs - whole:
        return Selection(np.ones(len(scores.owned), bool))
    u = uniform(seed, scores.begin + epoch, np.asarray(scores.owned), 1, "es")[:, 0]
    # those of no weight arrive last, in an order of their own
    arrival = -np.log1p(-u) / np.maximum(scores.importance.astype(np.float64), 1e-30)
    hidden, _ = hide_lowest(scores, -arrival.astype(np.float32), fraction, comm)
    return Selection(~hidden)

