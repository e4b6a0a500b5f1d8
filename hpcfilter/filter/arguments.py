"""The arguments of a filter, checked."""

import operator

import numpy as np

from hpcfilter.errors import InputError


def count(num_samples, comm):
    """num_samples as an int. Raises InputError when it is none, or too few for the ranks."""
    try:
        total = operator.index(num_samples)
    except TypeError:
        raise InputError(f"Filter: num_samples: got {type(num_samples).__name__}, expected the number of samples, such as len(dataset)") from None
    if total < comm.size:
        raise InputError(f"Filter: got {total} samples on {comm.size} ranks, expected at least one for each")
    return total


def own_rows(name, array, owned, total):
    """This rank's rows of an (N,) array. name: for errors. owned: range. total: N. Returns an array (n_local,); raises InputError."""
    if len(array) != total:
        raise InputError(f"Filter: {name}: got {len(array)} rows, expected {total}")
    return np.array(array[owned.start : owned.stop])  # a copy: the whole need not stay


def own_labels(labels, owned, total):
    """This rank's labels as int64 (n_local,). Raises InputError unless they are integers from 0."""
    labels = own_rows("labels", labels, owned, total)
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(f"Filter: labels: got {labels.dtype} from {labels.min()}, expected integers from 0")
    return labels.astype(np.int64)
