"""Which row of the source goes where: shuffled once, and split by class where the source has no test rows."""

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.base.randomness import Permutation
from hpcfilter.base.shares import share


def places(rows, dropped, held, labels, seed):
    """Deal the rows of the training part. rows: how many there are. dropped: int64, rows that are left out.
    held: how many become test rows.

    labels: int64 (rows,) to split by class: each gives its share to the test rows, to the nearest row, and
    keeps at least one to train on. None: any rows. seed: of the shuffle. Returns {"train": place, "test":
    place}, int64 (rows,): the row in the split, -1 for rows that are not in it.
    """
    position = np.asarray(Permutation(rows, seed, 0, "pack")(np.arange(rows)))
    kept = np.ones(rows, bool)
    kept[dropped] = False
    if labels is None:
        test = kept & (ranked(position, kept) < held)
    else:
        test = _by_class(position, labels, kept, held)
    return {"train": ranked(position, kept & ~test), "test": ranked(position, test)}


def ranked(position, chosen):
    """The rank of each chosen row among the chosen, by position; -1 for the others. position: a permutation,
    int64 (n,). chosen: bool (n,)."""
    flags = np.zeros(len(position), bool)
    flags[position[chosen]] = True
    return np.where(chosen, (np.cumsum(flags) - 1)[position], -1)


def _by_class(position, labels, kept, held):
    """Which rows are test rows: of each class those that come first, as many as `taken` says."""
    rows = np.flatnonzero(kept)
    order = rows[np.lexsort((position[rows], labels[rows]))]
    counts = np.bincount(labels[rows])
    within = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    test = np.zeros(len(position), bool)
    test[order[within < np.repeat(taken(counts, held), counts)]] = True
    return test


def taken(counts, held):
    """How many rows each class gives to the test rows: `held` in all, by the largest remainder, and never
    the last row of a class.

    counts: int64 (classes,), rows of each. Returns int64 (classes,), of a smaller sum where the
    classes have too few rows.
    """
    quota, rest = np.divmod(counts * held, max(int(counts.sum()), 1))
    most = np.maximum(counts - 1, 0)
    given = np.minimum(quota, most)
    by_rest = np.argsort(-rest, kind="stable")
    while (missing := held - int(given.sum())) > 0 and (free := by_rest[(given < most)[by_rest]]).size:
        given[free[:missing]] += 1
    return given


def count_held(fraction, rows, where):
    """How many of `rows` become test rows. Raises InputError when none or all would."""
    held = share(fraction, rows) if 0 < fraction < 1 else 0
    if not 0 < held < rows:
        raise InputError(f"{where}: test fraction {fraction} of {rows} rows leaves no test or no training "
                         "rows; expected within (0, 1)")
    return held
