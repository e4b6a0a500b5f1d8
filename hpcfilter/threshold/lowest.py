"""The exact global k-th smallest of scores that are spread over ranks, without moving a score.

A strided sample of 4096 scores says between which two values the k-th smallest almost surely lies; one pass over the scores counts those
below and picks out the few per cent between. Their keys (uint32, in the order of the scores) are pinned down digit by digit by integer
histograms merged by allreduce, and one exscan settles ties by global index. The sample only saves work: when the counts say that the value lies
elsewhere, all scores take part in the histograms. Payload per rank, whatever the number of samples and ranks: at most 16 KiB of sample and
40 KiB of histograms.
"""

from typing import NamedTuple

import numpy as np

from hpcfilter import faults
from hpcfilter.errors import BrokenInvariant, InputError
from hpcfilter.threshold.keys import TOP, key_score, order_keys

SAMPLE = 4096  # scores in the sample, of all ranks together
SMALL = 16 * SAMPLE  # fewer samples than this go without a bracket
SIGMAS = 4  # half the width of the bracket, in standard deviations of the sample's quantile
DIGIT = 11  # bits per round
WARM = 1 << 20  # half the width of the bracket around `start`, in keys: an eighth of the score's magnitude or more


class _Order(NamedTuple):
    """How the values compare: as float32 scores, or as the uint32 keys that they are."""

    keys: callable  # values (m,) -> uint32 (m,)
    value: callable  # key -> value
    last: int  # the highest key that compares as its value does: that of +inf


_SCORES = _Order(order_keys, lambda key: np.float32(key_score(key)), 0xFF800000)
_KEYS = _Order(lambda keys: keys, np.uint32, int(TOP))


def lowest(scores, n, comm, start=None):
    """Mark the globally n lowest scores: what a stable sort of all scores in rank order would put first.

    scores: float32 (n_local,) of this rank's samples; ranks own contiguous blocks of global indices in rank order, some perhaps empty.
    n: how many to mark, the same int on all ranks; NaN scores are never marked, so n is cut to the number of others.
    comm: all its ranks must call. start: a guess of the threshold, the same on all ranks, such as that of the epoch before: a good one
    saves the sample, a bad one costs one more pass over the scores, none changes the result.
    Returns bool (n_local,). Raises InputError for n < 0 and BrokenInvariant when the ranks' counts do not add up.
    """
    return cut(scores, n, comm, start)[0]


def cut(scores, n, comm, start=None):
    """`lowest`, and the threshold beside it: (mask bool (n_local,), the highest marked score, float, NaN when nothing is marked)."""
    scores = np.asarray(scores, np.float32)
    guess = None if start is None or np.isnan(start) else int(order_keys([start])[0])
    mask, key = _lowest(scores, n, comm, _SCORES, guess)
    return mask, float("nan") if key is None else key_score(key)


def lowest_keys(keys, n, comm):
    """`lowest` on uint32 keys (n_local,), every one a number. Returns (mask bool (n_local,), the n-th smallest key, None when n is 0)."""
    return _lowest(keys, n, comm, _KEYS)


def _lowest(values, n, comm, order, guess=None):
    if n < 0:
        raise InputError(f"lowest: n: got {n}, expected 0 or more")
    if guess is not None and (found := _inside(values, n, comm, order, max(0, guess - WARM), min(order.last, guess + WARM), None)):
        return _finish(n, *found, comm)
    total, low, high = _sampled(values, n, comm, order)
    n = min(n, total)
    if n == 0:
        return np.zeros(len(values), bool), None
    if high is not None and (found := _inside(values, n, comm, order, low, high, total)):
        return _finish(n, *found, comm)
    keys = order.keys(values)
    absent = int(comm.sum(np.count_nonzero(keys == TOP))) if order is _SCORES else 0
    n = min(n, total - absent)  # no number has the top key, so the threshold stays below it
    if n == 0:
        return np.zeros(len(values), bool), None
    return _finish(n, np.zeros(len(values), bool), np.arange(len(values)), keys, 0, int(TOP), n, total, comm)


def _sampled(values, n, comm, order):
    """The number of samples of all ranks, and the bracket that a sample gives: (total, lowest key, highest key), keys None without one."""
    if comm.size > SAMPLE:
        return int(comm.sum(len(values))), None, None
    wanted = min(len(values), SAMPLE // comm.size)
    own = order.keys(values[np.arange(wanted) * len(values) // max(wanted, 1)])
    parts = comm.allgather(np.concatenate([np.array([len(values)], np.uint64).view(np.uint32), own]))
    lengths = [int(part[:2].view(np.uint64)[0]) for part in parts]
    total = sum(lengths)
    if total < SMALL or not 0 < n <= total:
        return total, None, None
    keys = np.concatenate([part[2:] for part in parts])
    stands_for = np.repeat([length / max(len(part) - 2, 1) for part, length in zip(parts, lengths, strict=True)], [len(part) - 2 for part in parts])
    in_order = np.argsort(keys, kind="stable")
    rank = np.cumsum(stands_for[in_order])  # about how many samples lie up to each of the sample
    q = n / total
    spread = SIGMAS * np.sqrt(q * (1 - q) * (stands_for**2).sum()) + stands_for.max()
    first, last = np.searchsorted(rank, [n - spread, n + spread])
    low = int(keys[in_order[first - 1]]) if first > 0 else 0
    high = int(keys[in_order[last]]) if last < len(keys) else order.last
    return total, low, min(high, order.last)


def _inside(values, n, comm, order, low, high, total):
    """Count below and inside the bracket of two keys.

    Returns (mask of those below, positions of those inside, their keys, low, high, n counted from the bracket, how many lie inside), or None when the
    n-th smallest is not inside.
    """
    below = values < order.value(low) if low > 0 else np.zeros(len(values), bool)
    inside = np.flatnonzero((values <= order.value(high)) ^ below)
    counts = np.array([np.count_nonzero(below), len(inside), 0, len(values)], np.int64)
    counts[2] = len(values) - counts[0] - counts[1]
    counts = comm.sum(counts)
    _check("the bracket", int(counts[:3].sum()), int(counts[3]) if total is None else total, comm)
    if not counts[0] < n <= counts[0] + counts[1]:
        return None
    return below, inside, order.keys(values[inside]), low, high, n - int(counts[0]), int(counts[1])


def _finish(wanted, mask, position, keys, low, high, n, total, comm):
    """Mark the n lowest of `total` keys between low and high, which stand at `position` of the mask, so that all ranks have `wanted` marks.

    Returns (mask, the n-th smallest key).
    """
    threshold, n, ties = _nth_smallest(keys, low, high, n, total, comm)
    mask[position[keys < threshold]] = True
    own = position[keys == threshold]
    mask[own if n == ties else own[: max(0, n - int(comm.exscan(len(own))))]] = True
    _check("the end", int(comm.sum(np.count_nonzero(mask))), wanted, comm)
    return mask, np.uint32(threshold)


def _nth_smallest(keys, low, high, n, total, comm):
    """The n-th smallest (n from 1) of `total` keys in [low, high]: (key, how many that equal it are among the n smallest, how many equal it)."""
    bits = (high - low).bit_length()
    rounds = -(-bits // DIGIT)
    threshold, inside = 0, keys - np.uint32(low)
    for number in range(rounds):
        width = -(-bits // (rounds - number))
        bits -= width
        digits = (inside >> np.uint32(bits)) & np.uint32((1 << width) - 1)
        own = np.bincount(digits, minlength=1 << width).astype(np.int64)
        faults.point("histogram", own)
        counts = comm.sum(own)
        _check(f"round {number}", int(counts.sum()), total, comm)
        below = np.cumsum(counts)
        digit = int(np.searchsorted(below, n))  # the first bin that reaches n
        n -= int(below[digit] - counts[digit])
        total = int(counts[digit])
        inside = inside[digits == digit]
        threshold = threshold << width | digit
    return low + threshold, n, total


def _check(where, got, expected, comm):
    """The free check of the reduction: all ranks hold the same sum, so all of them stop."""
    if got != expected:
        raise BrokenInvariant(f"threshold: {where}: ranks 0 to {comm.size - 1} counted {got} samples together, expected {expected} "
                              f"(seen by rank {comm.rank})")
