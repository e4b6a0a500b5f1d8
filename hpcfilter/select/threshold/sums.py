"""Exact sums and means of float32 numbers that are spread over ranks: the same bits on any number of ranks.

A float32 is an integer of 24 bits times a power of two. The integers are added up by power, so nothing is
ever rounded; 256 sums and a count, 2 KiB, are merged by one allreduce.
"""

from fractions import Fraction

import numpy as np

# numbers at a time: they stay in the cache, and a float64 adds up their 24-bit integers without rounding
_PIECE = 1 << 16


def exact_sum(values, comm):
    """The sum over all ranks. values: float32 (n_local,). All ranks must call. Returns (Fraction,
    how many were finite: int).

    NaN and infinities are left out of both.
    """
    values = np.ascontiguousarray(values, np.float32)
    parts = np.zeros(257, np.int64)
    for start in range(0, len(values), _PIECE):
        bits = values[start : start + _PIECE].view(np.uint32)
        exponent = (bits >> np.uint32(23)) & np.uint32(0xFF)
        integer = ((bits & np.uint32(0x7FFFFF))
                   | ((exponent > 0).astype(np.uint32) << np.uint32(23))).astype(np.int64)
        integer[bits >> np.uint32(31) > 0] *= -1
        parts[:256] += np.bincount(exponent, weights=integer, minlength=256).astype(np.int64)
        parts[256] += np.count_nonzero(exponent < 255)
    parts = [int(part) for part in comm.sum(parts)]
    return Fraction(sum(part << max(0, power - 1) for power, part in enumerate(parts[:255])),
                    1 << 149), parts[256]


def mean(values, comm):
    """The mean of the finite values of all ranks, rounded once. values: float32 (n_local,). Returns float;
    NaN when there are none."""
    total, count = exact_sum(values, comm)
    return float(total / count) if count else float("nan")
