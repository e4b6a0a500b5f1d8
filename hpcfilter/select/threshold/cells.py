"""A distribution in a few numbers: cells that hold nearly equally many samples, with exact counts."""

from typing import NamedTuple

import numpy as np

from hpcfilter.base.errors import BrokenInvariant


class Cells(NamedTuple):
    """borders: float32 (c,), increasing; counts: int64 (c + 1,). Cell j holds borders[j - 1] < x <=
    borders[j], the last one all above."""

    borders: np.ndarray
    counts: np.ndarray

    def of(self, scores):
        """The cell of each score. scores: (m,), none of them NaN. Returns int64 (m,)."""
        return np.searchsorted(self.borders, scores, side="left")


def cells(scores, owned, total, comm, number=1024):
    """Cut the scores of all ranks into about `number` cells, by the quantiles of an evenly spaced
    sample of global indices.

    scores: float32 (n_local,) of the global indices `owned` (range), of `total` in all. NaN scores are in no
    cell. All ranks must call. Borders and counts are a function of the scores alone, on any number of ranks;
    an outlier moves one border at most. Returns Cells. Payload per rank: at most 4 B * 4 * number for the
    sample and 8 B * number for the counts.
    """
    wanted = max(1, min(total, 4 * number))
    first, last = (-(-edge * wanted // max(total, 1)) for edge in (owned.start, owned.stop))
    # those of range(wanted) * total // wanted that this rank owns
    index = np.arange(first, last, dtype=np.int64) * total // wanted
    sample = np.concatenate(comm.allgather(np.asarray(scores, np.float32)[index - owned.start]))
    sample = np.sort(sample[~np.isnan(sample)])
    borders = np.unique(sample[np.arange(1, number) * len(sample) // number]) if len(sample) else sample
    known = ~np.isnan(scores)
    own = np.bincount(np.searchsorted(borders, scores[known], side="left"),
                      minlength=len(borders) + 1).astype(np.int64)
    counts = comm.sum(np.append(own, [np.count_nonzero(~known)]))
    if counts.sum() != total:
        raise BrokenInvariant(f"cells: ranks 0 to {comm.size - 1} counted {counts.sum()} samples together, "
                              f"expected {total} (seen by rank {comm.rank})")
    return Cells(borders, counts[:-1])
