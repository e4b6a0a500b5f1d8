"""What policies that rank have in common: an exact count of lowest scores, over all samples
or in each class."""

import numpy as np

from hpcfilter.base.errors import on_all
from hpcfilter.base.randomness import hash64
from hpcfilter.base.shares import share
from hpcfilter.select.threshold import cut, lowest_by_group


def hide_lowest(scores, importance, fraction, comm, per_class=False, factor=1.0):
    """Mark the floor(fraction * factor * N) lowest, or with per_class as many of the N_c of each
    class c. NaN is never marked.

    importance: float32 (n_local,). Returns (mask bool (n_local,), the highest marked score; NaN when there is
    none, or with per_class).
    """
    if not per_class:
        return cut(importance, share(fraction, scores.total, factor), comm)
    if scores.class_sizes is None:  # labels do not change: once per run
        scores.class_sizes = class_sizes(scores, comm)
    return lowest_by_group(importance, scores.labels, [share(fraction, int(size), factor)
                                                       for size in scores.class_sizes], comm), float("nan")


def class_sizes(scores, comm, mask=True):
    """How many samples of each class the ranks have, of those in `mask`. Returns int64 (C,)."""
    return comm.sum(np.bincount(scores.labels[np.broadcast_to(mask, scores.labels.shape)],
                                minlength=scores.classes).astype(np.int64))


def draw(scores, seed, epoch, stream):
    """A random uint32 key for each own sample, a function of (seed, epoch of the run, index). epoch: of the
    phase. Returns (n_local,)."""
    return _keys(scores, seed, scores.begin + epoch, stream)


def draw_once(scores, seed, stream):
    """The same, equal in all epochs."""
    return _keys(scores, seed, 0, stream)


def _keys(scores, seed, epoch, stream):
    return (hash64(seed, epoch, np.asarray(scores.owned), stream) >> np.uint64(32)).astype(np.uint32)


def hide_for_good(scores, importance, fraction, comm, per_class=False):
    """`hide_lowest` for a cut that is made once. Raises InputError on all ranks when too few
    samples have a score yet."""
    known, wanted = int(comm.sum(np.count_nonzero(~np.isnan(importance)))), share(fraction, scores.total)
    if known < wanted:
        raise on_all(f"filter.policy: {known} of {scores.total} samples have a score when {wanted} are to be "
                     "hidden for good; lengthen the phases before this one")
    return hide_lowest(scores, importance, fraction, comm, per_class)


def hides(parameters):
    """Whether a policy with a fraction hides anything."""
    return bool(parameters["fraction"])
