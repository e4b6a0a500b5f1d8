"""The samples that train, as bits."""

import numpy as np


class KeptSet:
    """The kept samples of all ranks in global order: one bit per sample, and an index that
    is 64 times smaller.

    `select(k)` finds the k-th kept sample by counting bits: blocks of 64 bytes first, then
    words, then halves of a word.
    """

    BLOCK = 64  # bytes

    def __init__(self, keep, comm):
        packed = np.packbits(keep, bitorder="little")
        # a rank's bits end at a block, the rest are zeros
        packed = np.pad(packed, (0, -len(packed) % self.BLOCK))
        parts = comm.allgather(packed)
        lengths = comm.allgather(np.array([len(keep)], np.int64))
        self.blocks = np.concatenate(parts).reshape(-1, self.BLOCK)
        self.before = np.concatenate(
            [[0], np.cumsum(np.bitwise_count(self.blocks.view(np.uint64)).sum(axis=1, dtype=np.int64))])
        self.count = int(self.before[-1])
        # A rank's first bit stands at `bit` in the padded bits and is sample `first` of all.
        self.bit = np.cumsum([0, *(8 * len(part) for part in parts)])
        self.first = np.cumsum([0, *(int(length[0]) for length in lengths)])

    def select(self, k):
        """Global index of the k-th kept sample. k: int64 (m,) in [0, count). Returns int64 (m,)."""
        found = [self._select(part) for part in np.array_split(k, len(k) // 8192 + 1)]
        return np.concatenate(found)

    def _select(self, k):
        block = np.searchsorted(self.before, k, side="right") - 1
        left, words = k - self.before[block], self.blocks.view("<u8")[block]
        ones = np.cumsum(np.bitwise_count(words), axis=1, dtype=np.int64)
        word = (ones <= left[:, None]).sum(axis=1)
        each = np.arange(len(k))
        left -= np.where(word > 0, ones[each, word - 1], 0)
        position = (block * words.shape[1] + word) * 64
        bits = words[each, word]
        for half in (32, 16, 8, 4, 2, 1):  # which half of the bits holds it?
            low = np.bitwise_count(bits & np.uint64(2**half - 1))
            upper = left >= low
            left -= upper * low
            bits >>= upper * np.uint64(half)
            position += upper * half
        rank = np.searchsorted(self.bit, position, side="right") - 1
        return self.first[rank] + position - self.bit[rank]
