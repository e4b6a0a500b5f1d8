"""The packed file in the making: laid out, filled row by row through memory maps, described, and
opened as training will."""

import hashlib
import json
import zlib

import numpy as np

from hpcfilter.base.errors import BrokenInvariant, InputError
from hpcfilter.data.hdf5 import create_hdf5, lay_out, open_hdf5, write_attribute
from hpcfilter.data.packed import FORMAT, open_packed
from hpcfilter.pack.values import Moments, Values
from hpcfilter.record.progress import progress

SLICE_BYTES = 16 << 20

SLICE_BYTES = 16 << 20


def _stored(array, classes=None):
    """The type a source array is stored in: native byte order, no truth values; class labels as int64."""
    if classes:
        return np.dtype(np.int64)
    return np.dtype(np.uint8) if array.dtype.kind == "b" else array.dtype.newbyteorder("=")


def create(path, plan):
    """Lay out the file, so that it can be filled through memory maps."""
    arrays = {}
    for split, (origin, _) in plan.place.items():
        images, labels, rows = plan.parts[origin].images, plan.labels[origin], plan.rows(split)
        arrays[f"{split}/images"] = (rows, *images.shape[1:]), _stored(images)
        arrays[f"{split}/labels"] = ((rows, *(() if plan.classes else labels.shape[1:])),
                                     _stored(labels, plan.classes))
        arrays[f"{split}/origin"] = (rows,), np.int64
    lay_out(path, arrays, {})


def _maps(path, name):
    """Writable memory maps of one split of the file that is being packed."""
    with open_hdf5(path) as file:
        return {part: np.memmap(path, data.dtype, "r+", data.id.get_offset(), data.shape)
                for part, data in file[name].items()}


def fill(path, plan, opened):
    """Write every row to its place. Returns (Moments of the training images, split of the source ->
    {"images": Values, "labels": Values})."""
    maps = {split: _maps(path, split) for split in plan.place}
    moments, values = Moments(), {origin: {"images": Values(), "labels": Values()} for origin in plan.parts}
    with progress(sum(part.images.shape[0] for part in plan.parts.values()),
                  f"pack {opened.name}") as advance:
        for origin, part in plan.parts.items():
            targets = [split for split, (source, _) in plan.place.items() if source == origin]
            for rows in _slices(part.images):
                number = np.arange(rows.start, rows.stop)
                x, y = np.asarray(part.images[rows]), np.asarray(plan.labels[origin][rows])
                # what is left out says nothing of the range
                kept = np.any([plan.place[split][1][rows] >= 0 for split in targets], axis=0)
                for name, found in (("images", x), ("labels", y)):
                    values[origin][name].add(*(found, number) if kept.all() else (found[kept], number[kept]))
                for split in targets:
                    here = _place(maps[split], plan.place[split][1][rows], number, x, y)
                    if split == "train" and here.any():
                        moments.add(x[here].reshape(-1, x.shape[-1] if x.ndim > 1 else 1))
                advance(len(number))
    for split in maps.values():
        for array in split.values():
            array.flush()
    return moments, values


def _place(maps, place, number, x, y):
    """Write those of the source rows `number` that have a place in this split. Returns which
    ones they are, bool."""
    here = place >= 0
    for part, values in (("images", x), ("labels", y), ("origin", number)):
        maps[part][place[here]] = values[here]
    return here


def _slices(images):
    """Slices of about SLICE_BYTES that keep to the source's own chunks, so that each chunk
    is decoded once."""
    rows, chunk = images.shape[0], getattr(images, "chunk_rows", 1)
    row_bytes = max(1, int(np.prod(images.shape[1:])) * images.dtype.itemsize)
    step = max(chunk, SLICE_BYTES // row_bytes // chunk * chunk, 1)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def write_description(path, about):
    """Write what the file says of itself, and the digest of that and of the type, shape and checksum of
    all images and labels."""
    state = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(about["rows"]):
        maps = _maps(path, name)
        for part in ("images", "labels"):
            state.update(f"{name}/{part} {maps[part].dtype.str} {maps[part].shape} "
                         f"{zlib.crc32(maps[part]):08x}".encode())
    with create_hdf5(path, "r+") as file:
        for name, value in (("about", json.dumps(about)), ("hpcfilter", FORMAT),
                            ("digest", state.hexdigest()[:16])):
            write_attribute(file, name, value)


def prove(path):
    """Open the file as training will, before it gets its name."""
    try:
        open_packed(path)
    except InputError as error:
        raise BrokenInvariant(f"pack: made a file that cannot be opened: {error}") from None
