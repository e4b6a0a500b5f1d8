"""Who owns which sample: contiguous blocks of global indices, in rank order."""

import numpy as np


def begin(n, parts, p):
    """Where block p begins when range(n) is cut into `parts` blocks whose sizes differ by at most
    one, the longer ones first.

    n, p: int64, scalars or arrays that broadcast. Block p is range(begin(n, parts, p),
    begin(n, parts, p + 1)).
    """
    size, longer = np.divmod(np.asarray(n, np.int64), max(parts, 1))  # no parts: n is 0
    return p * size + np.minimum(p, longer)


def edges(n, parts):
    """Where all the blocks begin, and n. Returns int64 (parts + 1,)."""
    return begin(n, parts, np.arange(parts + 1, dtype=np.int64))


def shard(n, rank, size):
    """The global indices that `rank` of `size` owns among n samples. Returns
    range(start, stop), perhaps empty."""
    return range(int(begin(n, size, rank)), int(begin(n, size, rank + 1)))
