"""RHO-LOSS: train what is learnable and not yet learnt (Mindermann et al., ICML 2022, arXiv
2206.07137, equation 3)."""

from pathlib import Path

import numpy as np

from hpcfilter.base.shares import Fraction
from hpcfilter.select.policies.policy import policy
from hpcfilter.select.policies.ranking import hide_lowest
from hpcfilter.select.policies.selection import Selection


@policy(given=("irreducible", ("loss",)), needs_given=True)
def rho(scores, epoch, seed, comm, *, irreducible: Path | None = None, fraction: Fraction = 0.9,
        per_class: bool = False):
    """Hide the floor(fraction * N) samples with the lowest l_i - IL_i, the last loss less
    the irreducible one.

    irreducible: a scores.h5 with a column loss, made by `hpcfilter score` with a network that was trained on
    other data; the caller has put this rank's rows into scores.given. The paper selects the best tenth of
    each large batch after a forward pass over it; here the large batch is the data set, and the hidden
    samples get their forward pass at the end of the epoch. State: the last loss and IL, 8 B. Biased.
    fraction = 0 is the baseline.

    Take it when labels are noisy and another network, trained on other data, can score the samples first. It
    costs that network, its scores, and a forward pass over the hidden samples in each epoch.
    """
    given = scores.given["loss"].astype(np.float32)
    left = scores.importance - np.where(np.isfinite(given), given, np.float32(np.nan))
    hidden, threshold = hide_lowest(scores, left, fraction, comm, per_class)
    return Selection(~hidden, threshold=threshold, refresh=hidden)

