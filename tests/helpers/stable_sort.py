"""The references for the threshold: one process, one stable sort."""

import numpy as np


def stable(scores, n):
    """The reference: one process, one stable sort; NaN last and never marked."""
    n = min(n, int((~np.isnan(scores)).sum()))
    mask = np.zeros(len(scores), bool)
    mask[np.argsort(scores + np.float32(0), kind="stable")[:n]] = True
    return mask


def stable_by_group(scores, group, n):
    mask = np.zeros(len(scores), bool)
    for g, wanted in enumerate(n):
        own = np.flatnonzero(group == g)
        mask[own[stable(scores[own], wanted)]] = True
    return mask
