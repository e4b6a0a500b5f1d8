"""A fresh random subset each epoch: the baseline that every filter must beat at equal compute (RS2, Okanovic et al., arXiv 2305.18424)."""

import numpy as np

from hpcfilter.config import Fraction, share
from hpcfilter.policies.selection import Selection
from hpcfilter.randomness import hash64
from hpcfilter.threshold import lowest_keys


def random(scores, epoch, seed, comm, *, fraction: Fraction = 0.3):
    """Hide exactly floor(fraction * N) samples, drawn anew each epoch by the hash of (seed, epoch, index).

    State: none. Weights 1; the mean gradient of the kept samples is an unbiased estimate of that of all.
    """
    keys = (hash64(seed, epoch, np.asarray(scores.owned), "random") >> np.uint64(32)).astype(np.uint32)
    hidden, _ = lowest_keys(keys, share(fraction, scores.total), comm)
    return Selection(~hidden)


random.needs_classes = False
