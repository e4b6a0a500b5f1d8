"""Randomness as a function of (seed, epoch, index).

Nothing here has state: there is nothing to checkpoint, and every number of ranks draws the same. The
mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
generators, OOPSLA 2014).
"""

import math
import zlib

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, the increment of SplitMix64
ROUNDS = 8  # of the keyed bijection; half of them change each side


def mix(x):
    """Scramble 64-bit integers, one to one. x: uint64 array or scalar. Returns the same shape, uint64."""
    x = np.atleast_1d(np.asarray(x, dtype=np.uint64)).copy()
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def hash64(seed, epoch, index, stream=""):
    """Hash (seed, epoch, index) for one use, named by `stream`, so that two uses never share their numbers.

    seed, epoch: int. index: integer array (n,) of global sample indices, any size up to 2^63.
    Returns uint64 (n,).
    """
    key = np.array([zlib.crc32(stream.encode())], dtype=np.uint64)
    for part in (seed, epoch):
        key = mix(key + np.uint64(part % 2**64) + GOLDEN)
    return mix(key + np.asarray(index).astype(np.uint64) * GOLDEN)


def uniform(seed, epoch, index, columns, stream):
    """Uniform numbers in [0, 1) for each sample. Returns float64 (n, columns) for index (n,)."""
    index = np.asarray(index)
    return np.stack([(hash64(seed, epoch, index, f"{stream}/{c}") >> np.uint64(11)) * 2.0**-53
                     for c in range(columns)], axis=1)


def digest(index, salt=0):
    """Digest of a multiset of (index, salt) pairs that can be added up over ranks, whatever the order.

    index, salt: integer arrays (n,) or scalars. Returns uint64 (2,): the sum of each pair's 128-bit hash
    modulo 2^64 per lane, so that an integer allreduce of the ranks' digests is the digest of the union.
    """
    index = np.asarray(index)
    salted = hash64(0, 0, salt, "digest") ^ hash64(0, 1, index, "digest") * GOLDEN
    return np.array([mix(salted).sum(dtype=np.uint64), mix(salted ^ GOLDEN).sum(dtype=np.uint64)],
                    dtype=np.uint64)


class Permutation:
    """A permutation of range(n) that is evaluated where it is needed: no array of n numbers anywhere.

    A Feistel-like bijection on a rows x columns grid that just covers n: alternately one coordinate is
    shifted by a hash of the other, modulo its length. The few positions that land outside range(n)
    walk on along their cycle.
    """

    def __init__(self, n, seed, epoch, stream="order"):
        self.n = n
        rows = max(1, math.isqrt(n))
        self.sides = rows, -(-n // rows) or 1
        # of each round: how far the one coordinate goes, by the other; some 8 sqrt(n) numbers in all
        self.shifts = []
        for number, key in enumerate(hash64(seed, epoch, np.arange(ROUNDS), stream)):
            moved, by = self.sides if number % 2 else self.sides[::-1]
            self.shifts.append((mix(np.arange(by, dtype=np.uint64) ^ key) % np.uint64(moved))
                               .astype(np.int64))

    def __call__(self, position):
        """Where each position goes. position: integer array (m,) in [0, n). Returns int64 (m,) in [0, n)."""
        x = self._once(np.asarray(position).astype(np.int64))
        outside = np.flatnonzero(x >= self.n)
        while outside.size:
            x[outside] = self._once(x[outside])
            outside = outside[x[outside] >= self.n]
        return x

    def _once(self, x):
        rows, columns = self.sides
        row, column = np.divmod(x, columns)
        for number, shift in enumerate(self.shifts):
            if number % 2:
                row += shift[column]
                row -= rows * (row >= rows)
            else:
                column += shift[row]
                column -= columns * (column >= columns)
        return row * columns + column


def seed_of(seed, epoch, stream, index=0):
    """A seed for torch's generator as a function of (seed, epoch, index) and its use."""
    return int(hash64(seed, epoch, np.array([index]), stream)[0] >> np.uint64(1))
