"""The exact global k-th smallest of scores that are spread over ranks, without moving a score.

float32 scores become uint32 keys in the same order; three rounds of integer histograms (11 + 11 + 10 bits) merged by allreduce
pin down the k-th smallest key bit by bit, and one exscan settles ties by global index. Integers make the result independent
of the number of ranks and of the order of reduction, and give a free check: the counts of each round must add up.
Payload per rank: 8 B * (2048 + 2048 + 1024) = 40 KiB and a few integers, whatever the number of samples.
"""

import numpy as np

from hpcfilter.errors import BrokenInvariant, InputError

_DIGITS = ((21, 11), (10, 11), (0, 10))  # (shift, bits), most significant first
_TOP = np.uint32(0xFFFFFFFF)


def order_keys(scores):
    """uint32 keys in the order of the float32 scores (n,); -0.0 equals 0.0, every NaN gets the top key, above +inf."""
    scores = np.asarray(scores, dtype=np.float32)
    bits = (scores + np.float32(0)).view(np.uint32)
    keys = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
    keys[np.isnan(scores)] = _TOP
    return keys


def key_score(key):
    """The float32 score of a key: the inverse of `order_keys`."""
    key = np.uint32(key)
    bits = key & np.uint32(0x7FFFFFFF) if key >> 31 else ~key
    return float(np.array(bits, dtype=np.uint32).view(np.float32))


def lowest(scores, n, comm, start=None):
    """Mark the globally n lowest scores: what a stable sort of all scores in rank order would put first.

    scores: float32 (n_local,) of this rank's samples; ranks own contiguous blocks of global indices in rank order, some perhaps empty.
    n: how many to mark, the same int on all ranks; NaN scores are never marked, so n is cut to the number of others.
    comm: all its ranks must call. start: a guess of the threshold; kept for the warm start, not used yet.
    Returns bool (n_local,). Raises InputError for n < 0 and BrokenInvariant when the ranks' counts do not add up.
    """
    return cut(scores, n, comm)[0]


def cut(scores, n, comm):
    """`lowest`, and the threshold beside it: (mask bool (n_local,), the highest marked score, float, NaN when nothing is marked)."""
    mask, key = lowest_keys(order_keys(scores), n, comm, absent=int(np.isnan(scores).sum()))
    return mask, float("nan") if key is None else key_score(key)


def lowest_keys(keys, n, comm, absent=0):
    """`lowest` on uint32 keys (n_local,). absent: how many of this rank's keys are the top key of a NaN, never marked.

    Returns (mask bool (n_local,), the n-th smallest key or None when nothing is marked).
    """
    if n < 0:
        raise InputError(f"lowest: n: got {n}, expected 0 or more")
    total, absent = (int(count) for count in comm.sum(np.array([len(keys), absent], dtype=np.int64)))
    n = min(n, total - absent)  # no number has the top key, so the threshold stays below it
    if n == 0:
        return np.zeros(len(keys), dtype=bool), None
    threshold, ties_wanted = _nth_smallest(keys, n, total, comm)
    mask = keys < threshold
    ties = np.flatnonzero(keys == threshold)
    before = comm.exscan(len(ties))
    mask[ties[: max(0, ties_wanted - before)]] = True
    return mask, threshold


def _nth_smallest(keys, n, total, comm):
    """The n-th smallest key (n from 1) of `total` keys, and how many of those that equal it are among the n smallest."""
    threshold, inside = 0, keys
    for number, (shift, bits) in enumerate(_DIGITS):
        digits = (inside >> np.uint32(shift)) & np.uint32((1 << bits) - 1)
        counts = comm.sum(np.bincount(digits, minlength=1 << bits).astype(np.int64))
        if counts.sum() != total:
            raise BrokenInvariant(f"threshold: round {number}: the ranks counted {counts.sum()} keys, expected {total} "
                                  f"(seen on rank {comm.rank} of {comm.size})")
        below = np.cumsum(counts)
        digit = int(np.searchsorted(below, n))  # the first bin that reaches n
        n -= int(below[digit] - counts[digit])
        total = int(counts[digit])
        inside = inside[digits == digit]
        threshold = threshold << bits | digit
    return np.uint32(threshold), n
