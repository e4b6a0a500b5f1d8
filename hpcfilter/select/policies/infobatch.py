"""InfoBatch: drop at random among the samples below the mean loss, and weigh up those that stay (Qin et al.,
ICLR 2024, arXiv 2303.04947)."""

from typing import Annotated

import numpy as np
from pydantic import Field

from hpcfilter.base.shares import Count, Fraction, share
from hpcfilter.select.policies.policy import policy
from hpcfilter.select.policies.ranking import draw
from hpcfilter.select.policies.selection import Selection
from hpcfilter.select.threshold import lowest_keys, mean


@policy(sums_to_n=lambda parameters: True)
def infobatch(scores, epoch, seed, comm, *, epochs: Count, r: Fraction = 0.5,
              delta: Annotated[float, Field(ge=0, le=1)] = 0.875):
    """Of the n samples whose last loss is below the mean, floor(r n) are dropped by the hash of
    (seed, epoch, index), and each of the others trains at the weight n / (n - floor(r n)), which is 1 /
    (1 - r) up to the rounding of the count. From epoch delta * epochs on all train.

    The mean is exact, over the finite losses. State: none beyond the last loss, 4 B. Unbiased: the weights
    sum to N, and each sample's expected weight is 1. r = 0 is the baseline. Learning rate as it is.

    Take it to save up to half of the passes at a small loss of accuracy, with any kind of target. It costs no
    extra pass.
    """
    keep, weight = np.ones(len(scores.owned), bool), np.ones(len(scores.owned), np.float32)
    if epoch >= delta * epochs:
        return Selection(keep)
    threshold = mean(scores.importance, comm)
    below = scores.importance < threshold
    n = int(comm.sum(np.count_nonzero(below)))
    dropped = share(r, n)
    if dropped:
        keep[below], _ = lowest_keys(draw(scores, seed, epoch, "infobatch")[below], n - dropped, comm)
        weight[below] = n / (n - dropped)
    return Selection(keep, weight, threshold=threshold)

