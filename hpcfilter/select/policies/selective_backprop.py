"""Selective-Backprop: keep a sample with a probability that grows with the rank of its loss (Jiang et
al., arXiv 1910.00762)."""

from typing import Annotated

import numpy as np
from pydantic import Field

from hpcfilter.base.randomness import uniform
from hpcfilter.select.policies.policy import policy
from hpcfilter.select.policies.selection import Selection
from hpcfilter.select.threshold import cells


def _can_reweight(parameters):
    unbounded = parameters["reweight"] and not parameters["least"]
    return ("filter.reweight: needs filter.least above 0, or a weight could be of any size"
            if unbounded else None)


@policy(problem=_can_reweight)
def selective_backprop(scores, epoch, seed, comm, *, beta: Annotated[float, Field(ge=0)] = 1.0,
                       least: Annotated[float, Field(ge=0, le=1)] = 0.0, reweight: bool = False):
    """Keep sample i with probability max(CDF(l_i)^beta, least): the kept share is 1 /
    (1 + beta) for least = 0.

    The paper's stale form, with the last loss of each epoch. Its CDF is that of the last 1024 losses; here it
    is that of all N, in about 1024 cells with exact counts; within a cell, where losses are all but equal,
    the order is drawn. One draw per (seed, epoch, index).

    State: none beyond the last loss, 4 B. Weights 1: biased towards the hard. With reweight = true the weight
    is 1 / probability, which makes the expected weight 1 (Horvitz and Thompson 1952); it needs least > 0.
    beta = 0 is the baseline. Samples never observed are kept.

    Take it to favour hard samples without leaving any out for good, with any kind of target. It costs no
    extra pass.
    """
    distribution = cells(scores.importance, scores.owned, scores.total, comm)
    known = ~np.isnan(scores.importance)
    cell = distribution.of(scores.importance[known])
    below, known_total = (np.cumsum(distribution.counts) - distribution.counts,
                          max(1, distribution.counts.sum()))
    u = uniform(seed, scores.begin + epoch, np.asarray(scores.owned), 2, "selective_backprop")
    probability = np.ones(len(known))
    probability[known] = np.maximum(((below[cell] + u[known, 1] * distribution.counts[cell]) / known_total)
                                    ** beta, least)
    keep = u[:, 0] < probability
    return Selection(keep, (1 / probability).astype(np.float32) if reweight else None)
