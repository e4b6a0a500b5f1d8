"""The packed file: rows contiguous in HDF5, read through a memory map.

    /train/images   (N, ...) numbers      /test/images   (M, ...)
    /train/labels   (N, ...) numbers      /test/labels   (M, ...)
    /train/origin   (N,) int64            row number in the source, before the shuffle
    /SPLIT/NAME_crc32  (blocks,) uint32   CRC-32 of each run of `rows_per_block` rows

Attributes of the root: `hpcfilter` (format), `about` (JSON: name, classes, layout, mean, std, seed, source) and `digest`.
The file is refused before anything is read when a data set is not a plain contiguous array that lies inside the file.
"""

import hashlib
import json
import os
import zlib
from dataclasses import dataclass, field

import h5py
import numpy as np

from hpcfilter.data.shard import edges, shard
from hpcfilter.errors import InputError

FORMAT = "1"
BLOCK_BYTES = 1 << 20  # of one checksum


def rows_per_block(array):
    """How many rows of `array` one checksum covers."""
    return max(1, BLOCK_BYTES // max(1, array[:1].nbytes))


def checksums(array, blocks=None):
    """CRC-32 of the blocks of rows of a C-contiguous array. blocks: which (an iterable of numbers), default all. Returns uint32 array."""
    step = rows_per_block(array)
    blocks = range(-(-len(array) // step)) if blocks is None else blocks
    return np.array([zlib.crc32(array[b * step : (b + 1) * step].reshape(-1).view(np.uint8)) for b in blocks], dtype=np.uint32)


@dataclass
class Split:
    """One split of a packed file: `images` and `labels` are memory maps (n, ...), read where they are touched."""

    name: str
    images: np.ndarray
    labels: np.ndarray
    sums: dict = field(default_factory=dict)

    def __len__(self):
        return len(self.images)

    def rows(self, index):
        """Read rows in the order given. index: int64 (b,). Returns (images (b, ...), labels (b, ...)), copies."""
        return np.take(self.images, index, axis=0), np.take(self.labels, index, axis=0)

    def verify(self, part=0, parts=1):
        """Check the checksums of this part of the blocks. Raises InputError naming the data set and the rows."""
        for name, array in (("images", self.images), ("labels", self.labels)):
            wanted, step = self.sums[name], rows_per_block(array)
            first, last = (int(edge) for edge in edges(len(wanted), parts)[part : part + 2])
            wrong = np.flatnonzero(checksums(array, range(first, last)) != wanted[first:last])
            if wrong.size:
                row = (first + int(wrong[0])) * step
                raise InputError(f"{array.filename}: {self.name}/{name}: rows {row} to {min(row + step, len(array)) - 1} "
                                 "differ from their checksum; the file is damaged, pack it again")


@dataclass
class Dataset:
    """An open packed file."""

    path: str
    train: Split
    test: Split
    classes: list  # names in label order; empty when the targets are not classes
    layout: str  # HW, HWC or "" (rows go to the model as they are)
    mean: np.ndarray  # float32, of the training images: per channel of HWC, per feature of vectors, else one number
    std: np.ndarray
    digest: str

    @property
    def target(self):
        """Describe the targets, for errors."""
        return f"{len(self.classes)} classes" if self.classes else f"{self.train.labels.dtype} targets of shape {self.train.labels.shape[1:]}"

    def check(self, part, parts, verify):
        """Check what rank `part` of `parts` owns: some row, labels within the classes and, with `verify`, the checksums. Raises InputError."""
        if parts > len(self.train):
            raise InputError(f"{self.path}: got {parts} ranks for {len(self.train)} training samples, expected at most one rank per sample")
        for split in (self.train, self.test):
            if verify:
                split.verify(part, parts)
            if self.classes:
                own = shard(len(split), part, parts)
                check_labels(split.labels[own.start : own.stop], len(self.classes), f"{self.path}: {split.name}/labels", own.start)


def open_packed(path):
    """Open a packed file without reading its rows. Returns Dataset.

    Raises InputError when the file is missing, damaged, truncated or not packed by hpcfilter.
    """
    path = str(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            if str(file.attrs.get("hpcfilter")) != FORMAT:
                raise InputError(f"{path}: not a packed file of format {FORMAT}; make one with: hpcfilter pack {path} -o PACKED.h5")
            about = json.loads(file.attrs["about"])
            splits = {name: _open_split(file, name) for name in ("train", "test")}
            digest = file.attrs["digest"]
    except InputError:
        raise
    except (OSError, KeyError, ValueError, RuntimeError) as error:  # what h5py raises on files that are damaged
        raise InputError(f"{path}: cannot open the packed file: {reason(error)}") from None
    if digest != content_digest(about, splits):
        raise InputError(f"{path}: the header differs from its digest; the file is damaged, pack it again")
    return Dataset(path, splits["train"], splits["test"], about["classes"], about["layout"],
                   np.array(about["mean"], np.float32), np.array(about["std"], np.float32), digest)


def is_packed(path):
    """Whether `path` is a file that `pack` has made, whole or damaged."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return "hpcfilter" in file.attrs
    except OSError:
        return False


def content_digest(about, splits):
    """Hex digest of a packed file: of what it says of itself, and of the type, shape and checksums of all its arrays."""
    state = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, split in sorted(splits.items()):
        for part, array in (("images", split.images), ("labels", split.labels)):
            state.update(f"{name}/{part} {array.dtype.str} {array.shape}".encode())
            state.update(np.asarray(split.sums[part], dtype="<u4").tobytes())
    return state.hexdigest()[:16]


def check_labels(labels, classes, where, first=0):
    """Raise InputError when a class label is outside [0, classes). labels: integer (n,), of the rows from `first` on."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise InputError(f"{where}: label {labels[wrong[0]]} in row {first + wrong[0]}, expected 0 to {classes - 1} ({classes} classes)")


def _open_split(file, name):
    arrays = {part: map_dataset(file, f"{name}/{part}") for part in ("images", "labels")}
    sums = {part: map_dataset(file, f"{name}/{part}_crc32")[:].copy() for part in arrays}
    for part, array in arrays.items():
        blocks = -(-len(array) // rows_per_block(array))
        if len(array) != len(arrays["images"]) or len(sums[part]) != blocks:
            raise InputError(f"{file.filename}: {name}/{part}: {len(array)} rows and {len(sums[part])} checksums, "
                             f"expected {len(arrays['images'])} and {blocks}")
    return Split(name, arrays["images"], arrays["labels"], sums)


def map_dataset(file, name):
    """Memory-map one data set of an open file, read-only. Raises InputError unless it is contiguous, native and inside the file."""
    where = f"{file.filename}: {name}"
    parent = file
    for step in name.split("/"):
        if not isinstance(parent.get(step, getlink=True), h5py.HardLink):
            raise InputError(f"{where}: missing, or a link out of its place")
        parent = parent[step]
    if not isinstance(parent, h5py.Dataset) or parent.dtype.kind not in "uif" or not parent.dtype.isnative:
        raise InputError(f"{where}: expected a data set of native numbers, got {getattr(parent, 'dtype', 'a group')}")
    creation = parent.id.get_create_plist()
    if parent.chunks is not None or creation.get_nfilters() or creation.get_external_count() or parent.is_virtual:
        raise InputError(f"{where}: expected one contiguous array, got a chunked, filtered, external or virtual one; pack it first")
    if parent.size == 0:
        return np.zeros(parent.shape, parent.dtype)
    offset, length = parent.id.get_offset(), os.path.getsize(file.filename)
    if offset is None or offset + parent.nbytes > length:
        raise InputError(f"{where}: {parent.nbytes} bytes at {offset} do not lie within the file's {length} bytes; it is truncated")
    return np.memmap(file.filename, dtype=parent.dtype, mode="r", offset=offset, shape=parent.shape)


def reason(error):
    """What an exception says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
