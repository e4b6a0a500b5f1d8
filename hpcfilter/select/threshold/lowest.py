"""The exact global k-th smallest of scores that are spread over ranks, without moving a score.

A strided sample of 4096 scores says between which two values the k-th smallest almost surely lies; one pass
over the scores counts those below and picks out the few per cent between. Their keys (uint32, in the order of
the scores) are pinned down digit by digit by integer histograms merged by allreduce, and one exscan settles
ties by global index. The sample only saves work: when the counts say that the value lies elsewhere, all
scores take part in the histograms. Payload per rank, whatever the number of samples and ranks: at most 16 KiB
of sample and 40 KiB of histograms.

The first message is the same whatever a rank was asked for, so that ranks which were asked for different
things find out instead of waiting.
"""

from typing import NamedTuple

import numpy as np

from hpcfilter.base.alive import faults
from hpcfilter.base.errors import BrokenInvariant, on_all
from hpcfilter.base.spans import by_value
from hpcfilter.select.threshold.keys import TOP, key_score, order_keys

SAMPLE = 4096  # scores in the sample, of all ranks together
SMALL = 16 * SAMPLE  # fewer samples than this go without a bracket
SIGMAS = 4  # half the width of the bracket, in standard deviations of the sample's quantile
DIGIT = 11  # bits per round
# half the width of the bracket around `start`, in keys: an eighth of the score's magnitude or more
WARM = 1 << 20


class _Order(NamedTuple):
    """How the values compare: as float32 scores, or as the uint32 keys that they are."""

    keys: callable  # values (m,) -> uint32 (m,)
    value: callable  # key -> value
    last: int  # the highest key that compares as its value does: that of +inf


_SCORES = _Order(order_keys, lambda key: np.float32(key_score(key)), 0xFF800000)
_KEYS = _Order(lambda keys: keys, np.uint32, int(TOP))


def lowest(scores, n, comm, start=None):
    """Mark the globally n lowest scores: what a stable sort of all scores in rank order would put first.

    scores: float32 (n_local,) of this rank's samples; ranks own contiguous blocks of global indices in rank
    order, some perhaps empty. n: how many to mark, the same int on all ranks; NaN scores are never marked, so
    n is cut to the number of others. comm: all its ranks must call. start: a guess of the threshold, the same
    on all ranks, such as that of the epoch before: a good one saves the sample, a bad one costs one more pass
    over the scores, none changes the result.
    Returns bool (n_local,). Raises InputError on all ranks for n < 0, and when n or start differ between
    them; BrokenInvariant when the ranks' counts do not add up.
    """
    return cut(scores, n, comm, start)[0]


def cut(scores, n, comm, start=None):
    """`lowest`, and the threshold beside it: (mask bool (n_local,), the highest marked score, float, NaN
    when nothing is marked)."""
    scores = np.asarray(scores, np.float32)
    guess = None if start is None or np.isnan(start) else int(order_keys([start])[0])
    mask, key = _lowest(scores, n, comm, _SCORES, guess)
    return mask, float("nan") if key is None else key_score(key)


def lowest_keys(keys, n, comm):
    """`lowest` on uint32 keys (n_local,), every one a number. Returns (mask bool (n_local,), the n-th
    smallest key, None when n is 0)."""
    return _lowest(keys, n, comm, _KEYS)


class _Bracket(NamedTuple):
    """This rank's values on either side of two keys, and between them."""

    low: int
    high: int
    below: np.ndarray  # bool (n_local,)
    inside: np.ndarray  # positions of those inside
    counts: np.ndarray  # int64 (3,): below, inside, above

    @classmethod
    def of(cls, values, low, high, order):
        below = values < order.value(low) if low > 0 else np.zeros(len(values), bool)
        inside = np.flatnonzero((values <= order.value(high)) ^ below)
        counts = np.array([np.count_nonzero(below), len(inside), 0], np.int64)
        counts[2] = len(values) - counts.sum()
        return cls(low, high, below, inside, counts)


def _lowest(values, n, comm, order, guess=None):
    bracket = None if guess is None else _Bracket.of(values, max(0, guess - WARM),
                                                     min(order.last, guess + WARM), order)
    total, counts = _first_message(values, n, comm, order, guess, bracket)
    if n < 0:
        raise on_all(f"lowest: n: got {n}, expected 0 or more")
    n = min(n, total)
    if n == 0:
        return np.zeros(len(values), bool), None
    if bracket and (found := _inside(bracket, counts, values, n, total, comm, order)):
        return _finish(n, *found, comm)
    if total >= SMALL and comm.size <= SAMPLE:
        bracket = _Bracket.of(values, *_sampled(values, n, total, comm, order), order)
        if found := _inside(bracket, comm.sum(bracket.counts), values, n, total, comm, order):
            return _finish(n, *found, comm)
    keys = order.keys(values)
    absent = int(comm.sum(np.count_nonzero(keys == TOP))) if order is _SCORES else 0
    n = min(n, total - absent)  # no number has the top key, so the threshold stays below it
    if n == 0:
        return np.zeros(len(values), bool), None
    return _finish(n, np.zeros(len(values), bool), np.arange(len(values)), keys, 0, int(TOP), n, total, comm)


def _first_message(values, n, comm, order, guess, bracket):
    """Add up how many samples there are, and how many on either side of the bracket around a guess; see
    whether all ranks were asked for the same.

    n and the guess go along in digits of 16 bits and their squares: ranks * sum of squares = square of the
    sum only where all digits are equal (Cauchy-Schwarz), and every rank sees it. Returns (samples of all
    ranks, counts of the bracket). Raises InputError on all ranks.
    """
    asked = np.array([n, -1 if guess is None else guess], np.int64)
    digits = asked.view(np.uint16).astype(np.int64)
    own = np.concatenate([digits, digits**2, [len(values)],
                          np.zeros(3, np.int64) if bracket is None else bracket.counts])
    sums = comm.sum(own)
    of_digits, of_squares = sums[: len(digits)].tolist(), sums[len(digits) : 2 * len(digits)].tolist()
    if any(comm.size * square != digit**2 for digit, square in zip(of_digits, of_squares, strict=True)):
        _refuse_differences(asked, order, comm)
    return int(sums[-4]), sums[-3:]


def _refuse_differences(asked, order, comm):
    """Say which ranks were asked for what."""
    everywhere = [part.tolist() for part in comm.allgather(asked)]
    numbers = by_value({rank: number for rank, (number, _) in enumerate(everywhere)})
    guesses = by_value({rank: "none" if guess < 0 else str(order.value(guess))
                        for rank, (_, guess) in enumerate(everywhere)})
    for name, position, found in (("n", 0, numbers), ("start", 1, guesses)):
        if len({row[position] for row in everywhere}) > 1:
            raise on_all(f"lowest: {name}: got {found}; expected the same on all ranks")
    raise BrokenInvariant(f"threshold: the first message: ranks 0 to {comm.size - 1} were all asked for "
                          f"{numbers}, which their sums deny (seen by rank {comm.rank})")


def _sampled(values, n, total, comm, order):
    """The bracket that a sample of the `total` values of all ranks gives: (lowest key, highest key)."""
    wanted = min(len(values), SAMPLE // comm.size)
    own = order.keys(values[np.arange(wanted) * len(values) // max(wanted, 1)])
    parts = comm.allgather(np.concatenate([np.array([len(values)], np.uint64).view(np.uint32), own]))
    lengths = [int(part[:2].view(np.uint64)[0]) for part in parts]
    keys = np.concatenate([part[2:] for part in parts])
    stands_for = np.repeat([length / max(len(part) - 2, 1)
                            for part, length in zip(parts, lengths, strict=True)],
                           [len(part) - 2 for part in parts])
    in_order = np.argsort(keys, kind="stable")
    rank = np.cumsum(stands_for[in_order])  # about how many samples lie up to each of the sample
    q = n / total
    spread = SIGMAS * np.sqrt(q * (1 - q) * (stands_for**2).sum()) + stands_for.max()
    first, last = np.searchsorted(rank, [n - spread, n + spread])
    low = int(keys[in_order[first - 1]]) if first > 0 else 0
    high = int(keys[in_order[last]]) if last < len(keys) else order.last
    return low, min(high, order.last)


def _inside(bracket, counts, values, n, total, comm, order):
    """What `_finish` needs when the n-th smallest lies inside a bracket, else None. counts: those of
    the bracket, of all ranks.

    Returns (mask of those below, positions of those inside, their keys, low, high, n counted from the
    bracket, how many lie inside).
    """
    _check("the bracket", int(counts.sum()), total, comm)
    if not counts[0] < n <= counts[0] + counts[1]:
        return None
    return (bracket.below, bracket.inside, order.keys(values[bracket.inside]), bracket.low, bracket.high,
            n - int(counts[0]), int(counts[1]))


def _finish(wanted, mask, position, keys, low, high, n, total, comm):
    """Mark the n lowest of `total` keys between low and high, which stand at `position` of the mask, so that
    all ranks have `wanted` marks.

    Returns (mask, the n-th smallest key).
    """
    threshold, n, ties = _nth_smallest(keys, low, high, n, total, comm)
    mask[position[keys < threshold]] = True
    own = position[keys == threshold]
    mask[own if n == ties else own[: max(0, n - int(comm.exscan(len(own))))]] = True
    _check("the end", int(comm.sum(np.count_nonzero(mask))), wanted, comm)
    return mask, np.uint32(threshold)


def _nth_smallest(keys, low, high, n, total, comm):
    """The n-th smallest (n from 1) of `total` keys in [low, high]: (key, how many that equal it are among the
    n smallest, how many equal it)."""
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
        raise BrokenInvariant(f"threshold: {where}: ranks 0 to {comm.size - 1} counted {got} samples "
                              f"together, expected {expected} (seen by rank {comm.rank})")
