"""idx files, as MNIST and its kin come: [PREFIX-]train-images-idx3-ubyte, t10k- or test- beside it, labels
beside each, .gz or not."""

import gzip
import math
import os
import re
import struct

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.data.distrust import check_declared
from hpcfilter.pack.folders import is_hidden
from hpcfilter.pack.names import in_order, listed, meaning
from hpcfilter.pack.source import Part

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def is_idx(name):
    """Whether a file is called as idx files are."""
    return bool(re.search(r"idx[1-9]|ubyte|[.]idx([.]gz)?$", name))


def idx_files(folder):
    """The idx files in a folder, by name."""
    called = [file for file in in_order(folder.iterdir()) if is_idx(file.name)]
    return [file for file in called if file.is_file() and not is_hidden(file.name)]


def read_idx(path, notes):
    """The splits of one set: split -> Part. path: a file of it, or the folder of all.

    Raises InputError for several sets in one folder, two files of one kind, rows without
    labels, and damaged files.
    """
    beside = idx_files(path if path.is_dir() else path.parent)
    sets = {}
    for file in beside:
        found = meaning(file.name)
        sets.setdefault(found.rest, {}).setdefault((found.split, found.role), []).append(file)
    named = {"-".join(name): files for name, files in sets.items() if any(role for _, role in files)}
    chosen = meaning(path.name).rest if path.is_file() else None
    if chosen is None and len(named) > 1:
        some = next(file for kinds in named.values() for files in kinds.values() for file in files)
        raise InputError(f"{path}: holds {len(named)} sets of idx files: "
                         f"{listed(name or 'one without a name' for name in named)}; "
                         f"give a file of the one that is meant, such as {some}")
    files = sets.get(chosen) if chosen is not None else next(iter(named.values()), {})
    parts = {}
    for (split, role), found in files.items():
        plain = [file for file in found if file.suffix != ".gz"]
        if len(plain) == 1 and {file.name.removesuffix(".gz") for file in found} == {plain[0].name}:
            found[:] = plain  # unpacked beside its .gz
        if len(found) > 1:
            raise InputError(f"{found[0]}: and {found[1].name} may both be the "
                             f"{role}{split and ' of ' + split}; leave one of them here")
        if role == "images":
            labels = files.get((split, "labels"), [None])[0]
            if labels is None:
                raise InputError(f"{found[0]}: expected its labels beside it, "
                                 f"in {found[0].name.replace('images', 'labels').replace('idx3', 'idx1')}")
            parts[split] = Part(_idx(found[0]), _idx(labels), f"{found[0].name}, {labels.name}")
    if not parts:
        raise InputError(f"{path}: found no idx files with rows, expected such as train-images-idx3-ubyte; "
                         f"there are {listed(file.name for file in beside)}")
    if others := [file.name for kinds in sets.values() if kinds is not files for found in kinds.values()
                  for file in found]:
        notes.left_out.append(f"{len(others)} idx files of other sets: {listed(others)}")
    return parts


def _idx(path):
    """One idx file (Y. LeCun's format: two zero bytes, type, number of axes, big-endian lengths, numbers)."""
    stored, packed = os.path.getsize(path), path.suffix == ".gz"
    with gzip.open(path) if packed else open(path, "rb") as file:
        head = file.read(4)
        zero, kind, axes = struct.unpack(">HBB", head)
        if zero or kind not in _TYPES or not axes:
            raise InputError(f"{path}: not an idx file: it begins with {head.hex()}")
        shape, dtype = struct.unpack(f">{axes}I", file.read(4 * axes)), np.dtype(_TYPES[kind])
        begin, size = file.tell(), math.prod(shape) * dtype.itemsize
        check_declared(path, size, stored)
        data = file.read(size + 1 if packed else min(size + 1, stored))
    if len(data) != size:
        raise InputError(f"{path}: got {begin + len(data)} bytes{' or more' * (len(data) > size)}, "
                         f"expected {begin + size} for shape {shape}; the file is truncated or damaged")
    return np.frombuffer(data, dtype).reshape(shape)
