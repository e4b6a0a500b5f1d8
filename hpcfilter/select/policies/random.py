"""A random subset each epoch: the baseline that every filter must beat at equal compute (RS2, Okanovic et
al., arXiv 2305.18424)."""

import numpy as np

from hpcfilter.base.randomness import Permutation
from hpcfilter.base.shares import Fraction, share
from hpcfilter.select.policies.policy import policy
from hpcfilter.select.policies.ranking import draw
from hpcfilter.select.policies.selection import Selection
from hpcfilter.select.threshold import lowest_keys


@policy(score=None)
def random(scores, epoch, seed, comm, *, fraction: Fraction = 0.3, replacement: bool = True):
    """Hide exactly floor(fraction * N) samples: a fresh draw each epoch, by the hash of (seed, epoch, index).

    With replacement = false the epochs walk through a permutation of all samples, as many as are kept at a
    time, and take a new one when the rest is too short; this matters for fractions of a half and more.
    State: none. Weights 1; the mean gradient of the kept samples is an unbiased estimate of that of all.

    Take it beside every other policy, at the same share: what does not beat it is not worth its trouble. It
    costs one threshold, and no score.
    """
    hidden = share(fraction, scores.total)
    if replacement or not hidden:
        mask, _ = lowest_keys(draw(scores, seed, epoch, "random"), hidden, comm)
        return Selection(~mask)
    kept = scores.total - hidden
    walk, step = divmod(scores.begin + epoch, scores.total // kept)
    position = Permutation(scores.total, seed, walk, "random walk")(np.asarray(scores.owned))
    return Selection(position // kept == step)
