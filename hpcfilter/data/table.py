"""Per-sample tables by global index (scores.h5, selection.h5, the filter state of a checkpoint).

A table is an HDF5 file with one contiguous array (N, ...) per column and attributes that say where it comes from. Ranks write
it one after the other through rank 0, so no rank ever holds N rows, and read only the rows they own.
"""

import json
import os

import h5py
import numpy as np

from hpcfilter.data.packed import map_dataset, reason
from hpcfilter.errors import InputError


def write_table(path, rows, columns, about):
    """Write a table under a temporary name, then rename it.

    columns: name -> (dtype, iterable of arrays that together are the `rows` rows). about: name -> str, int, float, or a dict that becomes JSON;
    each one an attribute of the file.
    Raises OSError when the file cannot be written; what stood at `path` is then untouched.
    """
    path = str(path)
    temporary = f"{path}.part{os.getpid()}"
    try:
        with h5py.File(temporary, "w", locking=False) as file:
            for name, value in about.items():
                file.attrs[name] = json.dumps(value) if isinstance(value, dict) else value
            for name, (dtype, pieces) in columns.items():
                data, done = file.create_dataset(name, shape=(rows,), dtype=dtype), 0
                for piece in pieces:
                    data[done : done + len(piece)] = piece
                    done += len(piece)
                if done != rows:
                    raise ValueError(f"{path}: column {name}: got {done} rows, expected {rows}")
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def read_table(path, owned=None):
    """Read a table. owned: range of the rows wanted, default all. Returns (columns: name -> array, attributes: dict, rows in the file).

    Raises InputError when the file is missing, damaged or holds anything but plain arrays.
    """
    path = str(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            about = {name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()}
            arrays = {name: map_dataset(file, name) for name in file}
    except InputError:
        raise
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: cannot read: {reason(error)}") from None
    lengths = {len(array) for array in arrays.values() if array.ndim}
    if len(lengths) != 1 or not all(array.ndim for array in arrays.values()):
        raise InputError(f"{path}: not a table: got columns of {sorted(lengths)} rows, expected as many in each")
    rows = lengths.pop()
    owned = range(rows) if owned is None else owned
    return {name: np.array(array[owned.start : owned.stop]) for name, array in arrays.items()}, about, rows
