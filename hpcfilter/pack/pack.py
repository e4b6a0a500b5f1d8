"""`hpcfilter pack`: any source becomes one packed file, shuffled once.

Each source row is read once, in the source's own order, and written to its place in the shuffled file through a memory map, so that
memory stays at one slice whatever the size. The shuffle is what makes contiguous blocks of the file fair shares of the data.
"""

import hashlib
import json
import os
import zlib
from pathlib import Path

import numpy as np

from hpcfilter.config import share
from hpcfilter.data.distrust import DAMAGE, one_line
from hpcfilter.data.hdf5 import create_hdf5, lay_out, open_hdf5, write_attribute
from hpcfilter.data.packed import FORMAT, check_labels
from hpcfilter.data.seal import seal
from hpcfilter.errors import InputError
from hpcfilter.pack.sources import open_source
from hpcfilter.randomness import Permutation
from hpcfilter.record import progress

SLICE_BYTES = 16 << 20


def pack(source, target, seed=0, test_fraction=0.2, size=None, regression=False, layout=None, replace=False):
    """Pack a source. Returns the file's own description (dict: name, classes, rows, ...).

    source: see pack/sources.py. target: path of the .h5 file. seed: of the shuffle. test_fraction: share split off when the source has no test rows.
    size: (height, width) for images in folders. regression: keep integer targets as numbers, not classes.
    layout: "HW", "HWC" or "" (default: guessed for uint8 images). replace: overwrite the target.
    Raises InputError for a source that cannot be packed; the target is written under a temporary name and renamed, or not there at all.
    """
    target = Path(target)
    if target.exists() and not replace:
        raise InputError(f"{target}: is there already; give --replace to overwrite it")
    if not target.parent.is_dir():
        raise InputError(f"{target}: no folder {target.parent}")
    opened = open_source(source, size)
    temporary = target.with_name(f"{target.name}.part{os.getpid()}")
    try:
        splits = _splits(opened, seed, test_fraction)
        classes = _classes(opened, regression)
        layout = _layout(opened.train[0], layout)
        _create(temporary, splits, classes)
        mean, std = _fill(temporary, splits, opened, classes).mean_std(each=layout == "HWC" or len(opened.train[0].shape) == 2)
        about = {"name": opened.name, "classes": classes, "layout": layout, "mean": mean, "std": std, "seed": seed,
                 "source": Path(source).name, "rows": {name: split["rows"] for name, split in splits.items()}}
        _describe(temporary, about)
        seal(temporary)
        os.replace(temporary, target)
    except DAMAGE as error:
        raise InputError(f"{source} to {target}: {type(error).__name__}: {one_line(error)}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return about


def _splits(opened, seed, test_fraction):
    """Each split: its source arrays, its number of rows, and `place`: source row numbers -> row in the split, or -1."""
    for name, pair in (("train", opened.train), ("test", opened.test)):
        if pair and (pair[0].shape[0] != pair[1].shape[0] or pair[0].shape[0] == 0):
            raise InputError(f"{opened.name}: {name}: got {pair[0].shape[0]} images and {pair[1].shape[0]} labels, expected as many, and some")
    rows = opened.train[0].shape[0]
    shuffle = Permutation(rows, seed, 0, "pack")
    if opened.test:
        if opened.test[0].shape[1:] != opened.train[0].shape[1:]:
            raise InputError(f"{opened.name}: test rows of shape {opened.test[0].shape[1:]}, expected {opened.train[0].shape[1:]} as in training")
        return {"train": dict(arrays=opened.train, rows=rows, place=shuffle),
                "test": dict(arrays=opened.test, rows=opened.test[0].shape[0], place=lambda row: row)}
    held = share(test_fraction, rows) if 0 < test_fraction < 1 else 0
    if not 0 < held < rows:
        raise InputError(f"{opened.name}: test fraction {test_fraction} of {rows} rows leaves no test or no training rows; expected within (0, 1)")
    return {"train": dict(arrays=opened.train, rows=rows - held, place=lambda row: shuffle(row) - held),
            "test": dict(arrays=opened.train, rows=held, place=lambda row: np.where(shuffle(row) < held, shuffle(row), -1))}


def _classes(opened, regression):
    """Names of the classes, in label order; empty for targets that are not classes. Labels are checked against them."""
    labels = [pair[1] for pair in (opened.train, opened.test) if pair]
    if regression or any(part.dtype.kind not in "uib" or np.prod(part.shape[1:]) != 1 for part in labels):
        return []
    values = np.concatenate([np.asarray(part[:]).reshape(-1).astype(np.int64) for part in labels])
    if opened.classes is None and values.max() >= len(values):
        raise InputError(f"{opened.name}: got labels up to {values.max()} in {len(values)} rows, expected classes 0, 1, 2, ...; "
                         "give --regression when they are numbers")
    names = opened.classes or [str(label) for label in range(values.max() + 1)]
    check_labels(values, len(names), opened.name)
    return names


def _layout(images, wanted):
    """The layout of a row: as wanted, or guessed."""
    shape = images.shape[1:]
    if wanted is not None:
        if wanted and len(shape) != len(wanted):
            raise InputError(f"layout: got {wanted} for rows of shape {shape}, expected {len(wanted)} axes")
        return wanted
    if images.dtype == np.uint8 and len(shape) == 2:
        return "HW"
    return "HWC" if images.dtype == np.uint8 and len(shape) == 3 and shape[-1] in (1, 3, 4) else ""


def _stored(array, classes=None):
    """The type a source array is stored in: native byte order, no booleans; class labels as int64."""
    if classes:
        return np.dtype(np.int64)
    if array.dtype.kind not in "uifb":
        raise InputError(f"got values of type {array.dtype}, expected numbers")
    return np.dtype(np.uint8) if array.dtype.kind == "b" else array.dtype.newbyteorder("=")


def _create(path, splits, classes):
    """Lay out the file, so that it can be filled through memory maps."""
    arrays = {}
    for name, split in splits.items():
        (images, labels), rows = split["arrays"], split["rows"]
        arrays[f"{name}/images"] = (rows, *images.shape[1:]), _stored(images)
        arrays[f"{name}/labels"] = (rows, *(() if classes else labels.shape[1:])), _stored(labels, classes)
        arrays[f"{name}/origin"] = (rows,), np.int64
    lay_out(path, arrays, {})


def _maps(path, name):
    """Writable memory maps of one split of the file that is being packed."""
    with open_hdf5(path) as file:
        return {part: np.memmap(path, data.dtype, "r+", data.id.get_offset(), data.shape) for part, data in file[name].items()}


def _fill(path, splits, opened, classes):
    """Write every row to its place. Returns the Moments of the training images."""
    maps = {name: _maps(path, name) for name in splits}
    sources = [opened.train] + ([opened.test] if opened.test else [])
    moments = Moments()
    with progress(sum(images.shape[0] for images, _ in sources), f"pack {opened.name}") as advance:
        for source in sources:
            targets = [name for name, split in splits.items() if split["arrays"] is source]
            for rows in _slices(source[0]):
                number = np.arange(rows.start, rows.stop)
                x, y = (np.asarray(array[rows]) for array in source)
                for name in targets:
                    here = _place(maps[name], splits[name], number, x, y.reshape(-1) if classes else y)
                    if name == "train" and here.any():
                        moments.add(x[here].reshape(-1, x.shape[-1] if x.ndim > 1 else 1))
                advance(len(number))
    for split in maps.values():
        for array in split.values():
            array.flush()
    return moments


def _place(maps, split, number, x, y):
    """Write those of the source rows `number` that belong to this split. Returns which ones they are, bool."""
    place = split["place"](number)
    here = (place >= 0) & (place < split["rows"])
    for part, values in (("images", x), ("labels", y), ("origin", number)):
        maps[part][place[here]] = values[here]
    return here


def _slices(images):
    """Slices of about SLICE_BYTES that keep to the source's own chunks, so that each chunk is decoded once."""
    rows, chunk = images.shape[0], getattr(images, "chunk_rows", 1)
    row_bytes = max(1, int(np.prod(images.shape[1:])) * images.dtype.itemsize)
    step = max(chunk, SLICE_BYTES // row_bytes // chunk * chunk, 1)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


class Moments:
    """Mean and squared deviation per last axis, gathered slice by slice (Chan, Golub, LeVeque 1979, the pairwise update)."""

    count, mean, squares = 0, 0.0, 0.0

    def add(self, values):
        """values: (n, channels)."""
        values = values.astype(np.float64)
        count, mean = len(values), values.mean(axis=0)
        if not np.isfinite(mean).all():
            raise InputError("the training images hold values that are not finite numbers")
        total, away = self.count + count, mean - self.mean
        self.squares = self.squares + ((values - mean) ** 2).sum(axis=0) + away**2 * (self.count * count / total)
        self.mean, self.count = self.mean + away * (count / total), total

    def mean_std(self, each):
        """Mean and standard deviation, as lists: of each channel or feature, else over everything. A constant has standard deviation 1."""
        mean, variance = self.mean, self.squares / self.count
        if not each:
            mean, variance = mean.mean(keepdims=True), variance.mean(keepdims=True) + mean.var(keepdims=True)
        return mean.tolist(), np.sqrt(np.where(variance > 0, variance, 1)).tolist()


def _describe(path, about):
    """Write what the file says of itself, and the digest of that and of the type, shape and checksum of all images and labels."""
    state = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(about["rows"]):
        maps = _maps(path, name)
        for part in ("images", "labels"):
            state.update(f"{name}/{part} {maps[part].dtype.str} {maps[part].shape} {zlib.crc32(maps[part]):08x}".encode())
    with create_hdf5(path, "r+") as file:
        for name, value in (("about", json.dumps(about)), ("hpcfilter", FORMAT), ("digest", state.hexdigest()[:16])):
            write_attribute(file, name, value)
