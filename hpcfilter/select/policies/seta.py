"""SeTa: a window of loss groups that slides from easy to hard (Scale Efficient Training for Large
Datasets, CVPR 2025)."""

from typing import Annotated

import numpy as np
from pydantic import Field

from hpcfilter.base.shares import Count, Fraction, share
from hpcfilter.select.policies.policy import policy
from hpcfilter.select.policies.ranking import draw
from hpcfilter.select.policies.selection import Selection
from hpcfilter.select.threshold import cells, lowest_keys

FLOAT32 = float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)
ITERATIONS = 100  # of k-means at most; it stops when nothing changes


@policy()
def seta(scores, epoch, seed, comm, *, epochs: Count, r: Fraction = 0.1, groups: Count = 5,
         window: Annotated[float, Field(gt=0, le=1)] = 0.9,
         delta: Annotated[float, Field(ge=0, le=1)] = 0.875):
    """Hide a random floor(r N), and of the others those outside the window.

    The last losses are cut into G = `groups` groups by k-means in one dimension, ordered by their
    centres; the window covers w = round(window * G) neighbouring groups, the first of them being group
    (epoch mod (G - w + 1)), from easy to hard and around again. From epoch delta * epochs on there is no
    window. Defaults of the published CIFAR script. k-means runs on about 1024 cells of the merged
    distribution, on rank 0 for all.

    State: none beyond the last loss, 4 B. Weights 1: biased. r = 0 with window = 1 is the baseline. A sample
    that was never observed is never hidden, so the first epoch trains all.

    Take it to train easy and hard samples in turn, with any kind of target. It costs no extra pass.
    """
    hidden, _ = lowest_keys(draw(scores, seed, epoch, "seta"), share(r, scores.total), comm)
    known = ~np.isnan(scores.importance)
    hidden &= known
    if epoch >= delta * epochs or window == 1:
        return Selection(~hidden)
    distribution = cells(scores.importance, scores.owned, scores.total, comm)
    group_of_cell = comm.bcast(kmeans(distribution, groups) if comm.rank == 0 else None)
    groups = group_of_cell.max() + 1  # fewer than asked for when there are fewer different losses
    width = max(1, round(window * groups))
    group = group_of_cell[distribution.of(scores.importance[known])]
    first = epoch % (groups - width + 1)
    hidden[known] |= (group < first) | (group >= first + width)
    return Selection(~hidden)


def kmeans(distribution, groups):
    """k-means in one dimension on a distribution in cells. Returns int64 (cells,): the group of each cell, 0
    for the lowest; no group is empty."""
    borders, counts = distribution
    if len(borders) == 0:
        return np.zeros(len(counts), np.int64)
    edges = np.concatenate([borders[:1], borders, borders[-1:]]).astype(np.float64)
    edges = np.clip(edges, *FLOAT32)
    value = (edges[:-1] + edges[1:]) / 2  # a cell stands for its middle, the first and last for their border
    group = np.minimum((np.cumsum(counts) - counts / 2) * groups // max(counts.sum(), 1),
                       groups - 1).astype(np.int64)
    for _ in range(ITERATIONS):
        weight = np.bincount(group, counts, minlength=groups)
        centres = np.bincount(group, counts * value, minlength=groups) / np.maximum(weight, 1)
        centres = np.where(weight > 0, centres, np.inf)  # an empty group goes to the end
        centres.sort()
        before, group = group, np.searchsorted((centres[:-1] + centres[1:]) / 2, value)
        if np.array_equal(before, group):
            break
    full = np.unique(group[counts > 0])
    return np.searchsorted(full, group).clip(max=max(0, len(full) - 1))
