"""From the ranks that train samples to the ranks that own them, and back."""

import numpy as np

from hpcfilter.base.errors import BrokenInvariant


def batch_means(values, step, steps, comm):
    """The mean over each global batch of a value per trained sample. All ranks must call.

    values: float32 (m,). step: int (m,), in which batch each was trained, in [0, steps). steps: as many on
    all ranks. Returns float32 (m,): each sample's batch mean over the finite values, NaN for a sample whose
    own value is not. Summed as integers of 2^-20, with values beyond 2^20 cut off, so that the order of the
    ranks does not matter. Payload: 16 B per step.
    """
    finite = np.isfinite(values)
    units = np.rint(np.clip(np.where(finite, values, 0), -(2.0**20), 2.0**20) * 2**20).astype(np.int64)
    own = np.zeros((2, steps), np.int64)
    np.add.at(own[0], step, units)
    np.add.at(own[1], step, finite)
    sums, counts = comm.sum(own)
    means = (sums / np.maximum(counts, 1) / 2**20).astype(np.float32)
    return np.where(finite, means[step], np.float32(np.nan))


def deliver(index, columns, shards, comm):
    """Send observations to the owners of their samples, in one alltoallv.

    index: int64 (m,), the samples this rank has trained; columns: name -> array (m,). All ranks must call,
    with the same names. Returns (index, columns) of the observations of samples this rank owns. Raises
    BrokenInvariant when some were lost or doubled.
    """
    record = np.dtype([("index", np.int64),
                       *((name, np.asarray(values).dtype) for name, values in sorted(columns.items()))])
    rows = np.empty(len(index), record)
    rows["index"] = index
    for name, values in columns.items():
        rows[name] = values
    received = np.concatenate(comm.alltoallv(_by_owner(rows, _owners(index, shards), comm.size)))
    sent, arrived = (int(count) for count in comm.sum(np.array([len(rows), len(received)], np.int64)))
    if sent != arrived:
        raise BrokenInvariant(f"home: {sent} observations were sent to their owners and {arrived} arrived")
    return received["index"].copy(), {name: received[name].copy() for name in columns}


def fetch(index, values, shards, comm):
    """Ask the owners of samples for a value each. index: int64 (m,); values: array (n_local,) of this rank's
    own. Returns array (m,).

    Two alltoallv: the questions and the answers. All ranks must call.
    """
    owner = _owners(index, shards)
    asked = comm.alltoallv(_by_owner(index, owner, comm.size))
    answers = comm.alltoallv([values[part - shards[comm.rank]] for part in asked])
    result = np.empty(len(index), values.dtype)
    result[np.argsort(owner, kind="stable")] = np.concatenate(answers)
    return result


def weights_of(index, selection, shards, comm):
    """The weights of samples that other ranks own; nothing is sent when all weights are 1."""
    if not comm.max(int(np.any(selection.weight != 1))):
        return np.ones(len(index), np.float32)
    return fetch(index, selection.weight, shards, comm)


def _owners(index, shards):
    return np.searchsorted(shards, index, side="right") - 1


def _by_owner(rows, owner, size):
    """Cut rows (m,) into one array per owner, keeping their order."""
    order = np.argsort(owner, kind="stable")
    return np.split(rows[order], np.cumsum(np.bincount(owner, minlength=size))[:-1])
