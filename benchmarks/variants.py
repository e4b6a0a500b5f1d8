"""Variants of a data set with known faults: rare classes, wrong labels, and a part of the training rows held
back for finding settings."""

import json
import zlib
from pathlib import Path

import h5py
import numpy as np

from hpcfilter.base.randomness import hash64
from hpcfilter.pack.pack import pack

RAREST = 0.01  # of the commonest class, in a long tail
WRONG = 0.4  # share of wrong labels
HELD_BACK = 0.1  # for validation


def packed(source, name, folder):
    """Pack a variant of a data set, unless it is there. Returns the path of the packed file.

    source: HDF5 file with train and test, each with images and labels, and with the attribute class_names, a
    JSON list. name: clean, long_tail (class c of C keeps a share of 0.01 ** (c / (C - 1)) of its training
    rows; the test rows stay) or noise_40 (40 % of the training labels become another class, each equally
    likely), with "+validation" behind it when a tenth of the training rows is to be the test set, faults and
    all. Which rows are hit is a function of the index alone.
    """
    stem = f"{name}-{zlib.crc32(Path(source).read_bytes()):08x}"  # another source is another file
    path = folder / f"{stem}.h5"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(source) as file:
            (x, y), test = ((file[split]["images"][:], file[split]["labels"][:].astype(np.int64))
                            for split in ("train", "test"))
            classes = json.loads(file.attrs["class_names"])
        base, _, held_back = name.partition("+")
        if base == "long_tail":
            kept = _share(len(y), "rare") < RAREST ** (y / (len(classes) - 1))
            x, y = x[kept], y[kept]
        if base == "noise_40":
            wrong, others = (_share(len(y), "wrong") < WRONG,
                             (_share(len(y), "other") * (len(classes) - 1)).astype(np.int64))
            y = np.where(wrong, (y + 1 + others) % len(classes), y)
        if held_back:
            validation = _share(len(y), "validation") < HELD_BACK
            test, x, y = (x[validation], y[validation]), x[~validation], y[~validation]
        np.savez(folder / f"{stem}.npz", x_train=x, y_train=y, x_test=test[0], y_test=test[1])
        pack(folder / f"{stem}.npz", path)
        (folder / f"{stem}.npz").unlink()
    return path


def _share(count, what):
    """A number in [0, 1) for each row."""
    return hash64(0, 0, np.arange(count), what) / 2.0**64
