"""The state of a filter as one dict on rank 0, without a trace of the number of ranks, and back."""

import numpy as np
import torch

from hpcfilter.base.errors import InputError
from hpcfilter.base.shard import edges


def gather(columns, comm):
    """columns: name -> array (m_local, ...), the same names on all ranks. Returns name -> tensor of all rows
    on rank 0, {} elsewhere."""
    whole = {}
    for name in sorted(columns):
        parts = list(comm.gather(columns[name]))  # every rank sends, whether or not it is the one that keeps
        if comm.rank == 0:
            whole[name] = torch.from_numpy(np.concatenate(parts))
    return whole


def scatter(arrays, comm):
    """Cut rank 0's arrays into one block of rows per rank, the blocks of `data.edges`. arrays: name -> array;
    counts on rank 0. Returns name -> block.
    """
    shapes = comm.bcast({name: (len(array), array.dtype.str) for name, array in arrays.items()})
    blocks = {}
    for name in sorted(shapes):
        length, kind = shapes[name]
        parts = (np.split(arrays[name], edges(length, comm.size)[1:-1]) if comm.rank == 0
                 else [np.zeros(0, np.dtype(kind))] * comm.size)
        blocks[name] = comm.alltoallv(parts)[0].copy()
    return blocks


def check_equal(identity, comm):
    """Raise InputError on all ranks unless all have the same identity. All ranks must call."""
    first = comm.bcast(identity)
    with comm.together():
        for key, value in identity.items():
            if value != first[key]:
                raise InputError(f"Filter: {key}: got {value} on rank {comm.rank} and {first[key]} on rank "
                                 "0, expected the same on all ranks")


def check(state, identity, epochs, rows, seen, comm):
    """Refuse a state that is not of this filter; rank 0's state counts. All ranks must call.

    identity: what must be equal. epochs: of the training, which may differ only between two epochs.
    rows: names of the columns that must have one row per sample. seen: of those of a sample that was seen.
    Returns (plain values, name -> numpy array, on rank 0). Raises InputError on all ranks.
    """
    arrays = {}

    def read():
        try:
            plain = _plain(state, identity, epochs, comm.size)
            arrays.update(_arrays(state, identity["samples"], rows, seen))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"Filter: not a state of a filter: {type(error).__name__} {error}") from None
        return plain

    return comm.on_first(read), arrays


def _plain(state, identity, epochs, ranks):
    """The numbers of a state, checked."""
    for key, expected in identity.items():
        if state[key] != expected:
            raise InputError(f"Filter: {key}: got a state of {state[key]}, expected {expected}")
    plain = {key: int(state[key]) for key in ("epoch", "over", "consumed", "ranks", "longest")}
    under_way = plain["consumed"] and not plain["over"]
    if under_way and state["epochs"] != epochs:
        raise InputError(f"Filter: epochs: got a state from the middle of an epoch of {state['epochs']}, "
                         f"expected {epochs}; the number of epochs may change only between two epochs")
    if min(plain.values()) < 0 or (identity["order"] == "global" and plain["consumed"] > identity["samples"]):
        raise InputError(f"Filter: got a state that makes no sense: {plain}")
    if under_way and identity["order"] == "shard" and plain["ranks"] != ranks:
        raise InputError(f"Filter: got a state of an epoch that was begun on {plain['ranks']} ranks, "
                         f"expected {ranks}: in shard order a rank cannot go on with the part of another")
    return plain


def _arrays(state, samples, rows, seen):
    """The columns of a state as numpy arrays, checked."""
    arrays = {name: value.cpu().numpy() for name, value in state.items() if isinstance(value, torch.Tensor)}
    for name in rows:
        if arrays[name].shape != (samples,):
            raise InputError(f"Filter: {name}: got a state with shape {arrays[name].shape}, "
                             f"expected ({samples},)")
    for kind in ("trained", "looked"):
        index, lengths = arrays[f"{kind}.index"], {len(arrays[f"{kind}.{name}"])
                                                   for name in ("index", "step", *seen)}
        if len(lengths) > 1 or not np.all((index >= 0) & (index < samples)):
            raise InputError(f"Filter: {kind}: got a state whose rows do not fit: lengths {sorted(lengths)}, "
                             f"indices up to {index.max(initial=0)}")
    return arrays
