"""The state of a filter as one dict on rank 0, without a trace of the number of ranks, and back."""

import numpy as np
import torch

from hpcfilter.data import edges
from hpcfilter.errors import InputError


def gather(columns, comm):
    """columns: name -> array (m_local, ...), the same names on all ranks. Returns name -> tensor of all rows on rank 0, {} elsewhere."""
    whole = {}
    for name in sorted(columns):
        parts = list(comm.gather(columns[name]))  # every rank sends, whether or not it is the one that keeps
        if comm.rank == 0:
            whole[name] = torch.from_numpy(np.concatenate(parts))
    return whole


def scatter(state, comm):
    """Cut the tensors of rank 0's state into one block of rows per rank, the blocks of `data.edges`. Returns name -> array of this rank's."""
    shapes = comm.bcast({name: (len(value), value.numpy().dtype.str) for name, value in state.items() if isinstance(value, torch.Tensor)}
                        if comm.rank == 0 else None)
    blocks = {}
    for name in sorted(shapes):
        length, kind = shapes[name]
        parts = [np.zeros(0, np.dtype(kind))] * comm.size
        if comm.rank == 0:
            parts = np.split(state[name].numpy(), edges(length, comm.size)[1:-1])
        blocks[name] = comm.alltoallv(parts)[0].copy()
    return blocks


def check(state, identity, rows, ranks):
    """Refuse a state that is not of this filter. identity: what must be equal; rows: names of the columns that must have one row per sample.

    Returns the plain values (dict). Raises InputError.
    """
    try:
        for key, expected in identity.items():
            if state[key] != expected:
                raise InputError(f"Filter: {key}: got a state of {state[key]}, expected {expected}")
        for name in rows:
            if state[name].shape != (identity["samples"],):
                raise InputError(f"Filter: {name}: got a state with shape {tuple(state[name].shape)}, expected ({identity['samples']},)")
        if state["order"] == "shard" and state["begun"] and state["ranks"] != ranks:
            raise InputError(f"Filter: got a state of an epoch that was begun on {state['ranks']} ranks, expected {ranks}: in shard order a rank "
                             "cannot go on with the part of another")
        return {name: value for name, value in state.items() if not isinstance(value, torch.Tensor)}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"Filter: not a state of a filter: {type(error).__name__} {error}") from None
