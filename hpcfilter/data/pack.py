"""`hpcfilter pack`: any source becomes one packed file, shuffled once.

Each source row is read once, in the source's own order, and written to its place in the shuffled file through a memory map, so that
memory stays at one slice whatever the size. The shuffle is what makes contiguous blocks of the file fair shares of the data.
"""

import json
import os
from pathlib import Path

import h5py
import numpy as np

from hpcfilter.data.packed import FORMAT, check_labels, checksums, content_digest, rows_per_block
from hpcfilter.data.sources import open_source
from hpcfilter.errors import InputError
from hpcfilter.randomness import Permutation
from hpcfilter.record import progress

SLICE_BYTES = 16 << 20


def pack(source, target, seed=0, test_fraction=0.2, size=None, regression=False, layout=None, replace=False):
    """Pack a source. Returns the file's own description (dict: name, classes, rows, ...).

    source: see data/sources.py. target: path of the .h5 file. seed: of the shuffle. test_fraction: share split off when the source has no test rows.
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
    splits = _splits(opened, seed, test_fraction)
    classes = _classes(opened, regression)
    layout = _guess_layout(opened.train[0]) if layout is None else layout
    about = {"name": opened.name, "classes": classes, "layout": layout, "seed": seed, "source": Path(source).name}
    temporary = target.with_name(f"{target.name}.part{os.getpid()}")
    try:
        _create(temporary, splits, classes)
        moments = _fill(temporary, splits, opened, classes)
        about["mean"], about["std"] = _mean_std(*moments, layout)
        about["rows"] = {name: split["rows"] for name, split in splits.items()}
        _seal(temporary, about)
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"{source} to {target}: {' '.join(str(error).split())}") from None
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
    held = int(rows * test_fraction)
    if not 0 < held < rows:
        raise InputError(f"{opened.name}: test fraction {test_fraction} of {rows} rows leaves no test or no training rows; expected within (0, 1)")
    return {"train": dict(arrays=opened.train, rows=rows - held, place=lambda row: shuffle(row) - held),
            "test": dict(arrays=opened.train, rows=held, place=lambda row: np.where(shuffle(row) < held, shuffle(row), -1))}


def _classes(opened, regression):
    """Names of the classes, in label order; empty for targets that are not classes. Labels are checked against them."""
    labels = [pair[1] for pair in (opened.train, opened.test) if pair]
    if regression or any(part.dtype.kind not in "ui" or np.prod(part.shape[1:]) != 1 for part in labels):
        return []
    highest = max(int(np.max(part[:])) for part in labels)
    names = opened.classes or [str(label) for label in range(highest + 1)]
    for part in labels:
        check_labels(part[:].reshape(-1).astype(np.int64), len(names), opened.name)
    return names


def _guess_layout(images):
    shape = images.shape[1:]
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
    """Lay out the file: every data set contiguous, its space reserved, so that it can be filled through a memory map."""
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_layout(h5py.h5d.CONTIGUOUS)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)

    def reserve(group, name, shape, dtype):
        kind, space = h5py.h5t.py_create(np.dtype(dtype)), h5py.h5s.create_simple(tuple(int(n) for n in shape))
        h5py.h5d.create(group.id, name.encode(), kind, space, dcpl=early)

    with h5py.File(path, "w", locking=False) as file:
        for name, split in splits.items():
            group, (images, labels), rows = file.create_group(name), split["arrays"], split["rows"]
            label_shape = () if classes else labels.shape[1:]
            for part, shape, dtype in (("images", images.shape[1:], _stored(images)), ("labels", label_shape, _stored(labels, classes))):
                reserve(group, part, (rows, *shape), dtype)
                blocks = -(-rows // rows_per_block(np.empty((1, *shape), dtype)))
                reserve(group, f"{part}_crc32", (blocks,), np.uint32)
            reserve(group, "origin", (rows,), np.int64)


def _maps(path, name):
    """Writable memory maps of one split of the file that is being packed."""
    with h5py.File(path, "r", locking=False) as file:
        return {part: np.memmap(path, data.dtype, "r+", data.id.get_offset(), data.shape) for part, data in file[name].items()}


def _fill(path, splits, opened, classes):
    """Write every row to its place. Returns (n, sum, sum of squares) of the training images, over all but the last axis."""
    maps = {name: _maps(path, name) for name in splits}
    sources = [opened.train] + ([opened.test] if opened.test else [])
    count, total, squares = 0, 0.0, 0.0
    with progress(sum(images.shape[0] for images, _ in sources), f"pack {opened.name}") as advance:
        for source in sources:
            targets = [name for name, split in splits.items() if split["arrays"] is source]
            for rows in _slices(source[0]):
                number = np.arange(rows.start, rows.stop)
                x, y = (np.asarray(array[rows]) for array in source)
                for name in targets:
                    here = _place(maps[name], splits[name], number, x, y.reshape(-1) if classes else y)
                    if name == "train":
                        values = x[here].reshape(-1, x.shape[-1]).astype(np.float64)
                        count, total, squares = count + len(values), total + values.sum(0), squares + (values**2).sum(0)
                advance(len(number))
    for name in splits:
        for part in ("images", "labels"):
            maps[name][f"{part}_crc32"][:] = checksums(maps[name][part])
        for array in maps[name].values():
            array.flush()
    return count, total, squares


def _place(maps, split, number, x, y):
    """Write those of the source rows `number` that belong to this split. Returns which ones they are, bool."""
    place = split["place"](number)
    here = (place >= 0) & (place < split["rows"])
    for part, values in (("images", x), ("labels", y), ("origin", number)):
        maps[part][place[here]] = values[here]
    return here


def _slices(images):
    """Slices of about SLICE_BYTES that keep to the source's own chunks, so that each chunk is decoded once."""
    rows, chunk = images.shape[0], getattr(images, "chunk_rows", None) or (getattr(images, "chunks", None) or (1,))[0]
    row_bytes = max(1, int(np.prod(images.shape[1:])) * images.dtype.itemsize)
    step = max(chunk, SLICE_BYTES // row_bytes // chunk * chunk, 1)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _mean_std(count, total, squares, layout):
    """Mean and standard deviation per channel of HWC, else over everything, as lists."""
    if layout != "HWC":
        count, total, squares = count * len(total), total.sum(keepdims=True), squares.sum(keepdims=True)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean.tolist(), np.where(std > 0, std, 1).tolist()


def _seal(path, about):
    """Write what the file says of itself, the digest last, and bring all of it to the disk."""
    with h5py.File(path, "r+", locking=False) as file:
        sums = {name: {part: file[name][f"{part}_crc32"][:] for part in ("images", "labels")} for name in about["rows"]}
        file.attrs["about"] = json.dumps(about)
        file.attrs["hpcfilter"] = FORMAT
        file.attrs["digest"] = content_digest(about, sums)
    with open(path, "rb") as file:
        os.fsync(file.fileno())
