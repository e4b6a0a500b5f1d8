"""The samples that train, as bits."""

import numpy as np


class KeptSet:
    """The kept samples of all ranks in global order: one bit per sample, and an index that is 64 times smaller.

    `select(k)` finds the k-th kept sample by counting bits: blocks of 64 bytes first, then bytes, then bits.
    """

    BLOCK = 64  # bytes

    def __init__(self, keep, comm):
        packed = np.packbits(keep, bitorder="little")
        packed = np.pad(packed, (0, -len(packed) % self.BLOCK))  # a rank's bits end at a block, the rest are zeros
        parts = comm.allgather(packed)
        lengths = comm.allgather(np.array([len(keep)], np.int64))
        self.blocks = np.concatenate(parts).reshape(-1, self.BLOCK)
        self.before = np.concatenate([[0], np.cumsum(np.bitwise_count(self.blocks.view(np.uint64)).sum(axis=1, dtype=np.int64))])
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
        left = k - self.before[block]
        ones = np.cumsum(np.bitwise_count(self.blocks[block]), axis=1, dtype=np.int64)
        byte = (ones <= left[:, None]).sum(axis=1)
        left -= np.where(byte > 0, np.take_along_axis(ones, np.maximum(byte - 1, 0)[:, None], axis=1)[:, 0], 0)
        bits = np.cumsum(np.unpackbits(self.blocks[block, byte][:, None], axis=1, bitorder="little"), axis=1)
        position = (block * self.BLOCK + byte) * 8 + (bits <= left[:, None]).sum(axis=1)
        rank = np.searchsorted(self.bit, position, side="right") - 1
        return self.first[rank] + position - self.bit[rank]
