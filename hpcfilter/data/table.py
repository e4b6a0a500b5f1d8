"""Per-sample tables by global index (scores.h5, selection.h5, the filter state of a checkpoint).

A table is an HDF5 file with one contiguous array (N, ...) per column, attributes that say where it comes
from, and a seal behind its end. Ranks write it one after the other through rank 0, so no rank ever holds N
rows, and read only the rows they own.
"""

import json
import os

import numpy as np

from hpcfilter.base.alive import pulse
from hpcfilter.base.errors import InputError
from hpcfilter.base.shard import shard
from hpcfilter.data.distrust import check_kind
from hpcfilter.data.hdf5 import lay_out, open_hdf5, own_array, read_attribute
from hpcfilter.data.seal import check_seal, seal
from hpcfilter.data.stranger import stranger

# an attribute of our other files -> what they are
OTHERS = {"hpcfilter": "a packed data set", "options": "a probe"}
EXPECTED = ("a table: the scores.h5 of `hpcfilter score` or the selection.h5 of `hpcfilter select`; "
            "a mask of your own is for scripts: hpcfilter.Filter(N, \"static\", given={\"keep\": mask})")


def write_table(path, rows, columns, about):
    """Write a table under a temporary name, seal it, then rename it.

    columns: name -> (dtype, iterable of arrays that together are the `rows` rows). about: name -> str, int,
    float, or a dict that becomes JSON; each one an attribute of the file.
    Raises OSError when the file cannot be written; what stood at `path` is then untouched.
    """
    path = str(path)
    temporary = f"{path}.part{os.getpid()}"
    try:
        attributes = {name: json.dumps(value) if isinstance(value, dict) else value
                      for name, value in about.items()}
        offsets = lay_out(temporary,
                          {name: ((rows,), dtype) for name, (dtype, _) in columns.items()}, attributes)
        with open(temporary, "r+b") as file:
            for name, (dtype, pieces) in columns.items():
                file.seek(offsets[name])
                done = 0
                for piece in pieces:
                    file.write(np.ascontiguousarray(piece, dtype))
                    done += len(piece)
                    pulse.beat()
                if done != rows:
                    raise ValueError(f"{path}: column {name}: got {done} rows, expected {rows}")
        seal(temporary)
        os.replace(temporary, path)
    except RuntimeError as error:  # what h5py makes of a disk that refuses
        raise OSError("the disk refuses") from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def is_table(path):
    """Whether a file is a table that hpcfilter has made, whole or damaged."""
    try:
        with open_hdf5(str(path)) as file:
            return "data" in file.attrs and not set(OTHERS) & set(file.attrs)
    except InputError:
        return False


def read_table(path, owned=None, part=(0, 1), blocks=None):
    """Read a table. Returns (columns: name -> array, attributes: dict, rows in the file).

    owned: range of the rows wanted, default this part's shard of them. part: (rank, ranks) that together
    check the seal of the whole file, each its share, before they read; None for a file that the caller has
    checked. blocks: numbers of its blocks to check instead. Raises InputError when the file is missing,
    damaged, no table or made by another program.
    """
    path = str(path)
    check_kind(path, EXPECTED)
    if part is not None:
        try:
            check_seal(path, *part, blocks=blocks)
        except InputError:
            if what := stranger(path):
                raise InputError(f"{path}: is {what}, which hpcfilter has not made; "
                                 f"expected {EXPECTED}") from None
            raise
    with open_hdf5(path) as file:
        if what := next((what for attribute, what in OTHERS.items() if attribute in file.attrs), None):
            raise InputError(f"{path}: is {what}, expected {EXPECTED}")
        about = {name: read_attribute(file, name) for name in file.attrs}
        arrays = {name: own_array(file, name) for name in file}
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1 or sum(array.nbytes for array in arrays.values()) > os.path.getsize(path):
        raise InputError(f"{path}: not a table: got columns of {sorted(lengths)} rows, expected as many in "
                         "each, and each a place of its own")
    rows = lengths.pop()
    owned = shard(rows, *(part or (0, 1))) if owned is None else owned
    return {name: np.array(array[owned.start : owned.stop]) for name, array in arrays.items()}, about, rows
