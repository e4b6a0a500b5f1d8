"""The lowest scores of many groups at once, such as classes or strata: their histograms are
refined in the same rounds."""

import numpy as np

from hpcfilter.base.errors import BrokenInvariant, InputError
from hpcfilter.select.threshold.keys import TOP, order_keys

BINS = 1 << 14  # counters per round and rank, about: 128 KiB


def lowest_by_group(scores, group, n, comm):
    """Mark in each group the n[g] lowest scores, ties by global index, as a stable sort of each
    group would put them first.

    scores: float32 (n_local,), or uint32 keys that are numbers as they are. group: int (n_local,) in [0,
    groups). n: int64 (groups,), the same on all ranks; NaN scores are never marked, so n[g] is cut to the
    number of others in the group. comm: all its ranks must call. Returns bool (n_local,). Payload per rank
    for 1000 groups: 8 rounds of 128 KiB and two small collectives; for few groups 3 or 4 rounds of at most
    128 KiB. Raises InputError for a negative n and BrokenInvariant when the ranks' counts do not add up.
    """
    n = np.array(n, np.int64)
    if n.min(initial=0) < 0:
        raise InputError(f"lowest_by_group: n: got {n.min()}, expected 0 or more")
    groups, group = len(n), np.asarray(group, np.intp)
    keys = scores if scores.dtype == np.uint32 else order_keys(scores)
    absent = (keys == TOP) & (scores.dtype != np.uint32)
    totals, absent = comm.sum(np.stack([np.bincount(group, minlength=groups),
                                        np.bincount(group[absent], minlength=groups)]).astype(np.int64))
    n = np.minimum(n, totals - absent)
    threshold, wanted, ties = _nth_smallest(keys, group, np.maximum(n, 1), totals, comm)
    active = n > 0
    own = threshold[group]
    mask = (keys < own) & active[group]
    tied = np.flatnonzero((keys == own) & active[group])
    if np.any(active & (wanted < ties)):  # else all ties are wanted
        before = comm.exscan(np.bincount(group[tied], minlength=groups).astype(np.int64))
        tied = tied[_rank_in_group(group[tied]) + before[group[tied]] < wanted[group[tied]]]
    mask[tied] = True
    return mask


def _nth_smallest(keys, group, n, totals, comm):
    """For each group the n-th smallest key, how many that equal it are among the n smallest,
    how many equal it."""
    groups = len(n)
    width = max(4, min(11, (BINS // max(groups, 1)).bit_length() - 1))
    width = -(-32 // -(-32 // width))  # no wider than the number of rounds needs
    threshold, left = np.zeros(groups, np.uint32), 32
    for number in range(-(-32 // width)):
        width = min(width, left)
        left -= width
        digits = ((keys >> np.uint32(left)) & np.uint32((1 << width) - 1)).astype(np.intp)
        counts = (comm.sum(np.bincount((group << width) + digits, minlength=groups << width).astype(np.int64))
                  .reshape(groups, -1))
        if not np.array_equal(counts.sum(axis=1), totals):
            raise BrokenInvariant(f"threshold by group: round {number}: ranks 0 to {comm.size - 1} counted "
                                  f"{counts.sum()} samples together in {groups} groups, "
                                  f"expected {totals.sum()} (seen by rank {comm.rank})")
        below = np.cumsum(counts, axis=1)
        digit = np.minimum((below < n[:, None]).sum(axis=1), (1 << width) - 1)  # the first bin that reaches n
        totals = counts[np.arange(groups), digit]
        n = n - (below[np.arange(groups), digit] - totals)
        stays = digits == digit[group]
        keys, group = keys[stays], group[stays]
        threshold = threshold << np.uint32(width) | digit.astype(np.uint32)
    return threshold, n, totals


def _rank_in_group(group):
    """How many before each element are of its group. group: int (m,). Returns int64 (m,)."""
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank
