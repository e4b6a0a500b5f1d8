"""The packed file: rows contiguous in HDF5, read through a memory map, with a seal behind its end.

    /train/images   (N, ...) numbers      /test/images   (M, ...)
    /train/labels   (N, ...) numbers      /test/labels   (M, ...)
    /train/origin   (N,) int64            row number in the source, before the shuffle

Attributes of the root: `hpcfilter` (format), `about` (JSON: name, classes, layout, mean, std, seed, source)
and `digest` (of the content). The file is refused before anything is read when a data set is not a plain
contiguous array that lies inside the file.
"""

import functools
import mmap
import shlex
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from hpcfilter.base.errors import InputError
from hpcfilter.base.paths import kind
from hpcfilter.base.settings import describe
from hpcfilter.base.shard import begin, shard
from hpcfilter.data.distrust import one_line
from hpcfilter.data.hdf5 import open_hdf5, own_array, read_attribute
from hpcfilter.data.seal import BLOCK, Seal, blocks_with_holes, check_seal, read_seal

FORMAT = "2"
LARGE = 16 << 10  # bytes of a row, from which on it is read alone; pages hold several smaller ones


class About(BaseModel):
    """What a packed file says of itself."""

    name: str
    classes: list[str]
    layout: Literal["HW", "HWC", ""]
    mean: list[FiniteFloat]
    std: list[Annotated[FiniteFloat, Field(gt=0)]]
    targets: Literal["", "none"] = ""  # none: the source has no labels, and the targets are zeros


@dataclass
class Split:
    """One split of a packed file: memory maps (n, ...), read where they are touched."""

    name: str
    images: np.ndarray
    labels: np.ndarray
    origin: np.ndarray
    digest: str = ""  # of the whole file

    def __len__(self):
        return len(self.images)

    def labels_of(self, owned):
        """The labels of a block of rows, int64 (n,). owned: range. For targets that are classes."""
        return np.asarray(self.labels[owned.start : owned.stop], np.int64)

    def rows(self, index):
        """Read rows in the order given. index: int64 (b,). Returns (images (b, ...), labels
        (b, ...)), copies."""
        if self.row_bytes >= LARGE:
            self._announce(index)
        return np.take(self.images, index, axis=0), np.take(self.labels, index, axis=0)

    def whole(self):
        """Copies of all rows (images, labels), read from the beginning to the end."""
        if self.row_bytes >= LARGE:
            self.images._mmap.madvise(mmap.MADV_SEQUENTIAL)
        copies = np.array(self.images), np.array(self.labels)
        self.read_alone()
        return copies

    @functools.cached_property
    def row_bytes(self):
        """Bytes of one sample, without its label."""
        return self.images[0].nbytes

    def read_alone(self):
        """Have the system read large rows as they are asked for. By itself it reads on behind each, over
        rows that a filter hides."""
        if self.row_bytes >= LARGE:
            self.images._mmap.madvise(mmap.MADV_RANDOM)

    def _announce(self, index):
        """Ask for rows all at once, so that the disk has more to do than one page after the other."""
        # where the map, which begins at a page, has the first row
        first = self.images.offset % mmap.ALLOCATIONGRANULARITY
        for start in (first + self.row_bytes * np.asarray(index)).tolist():
            page = start // mmap.PAGESIZE * mmap.PAGESIZE
            self.images._mmap.madvise(mmap.MADV_WILLNEED, page, start + self.row_bytes - page)

    def inside(self, start, stop):
        """Which rows of which arrays lie in bytes [start, stop) of the file. Yields str."""
        for part in ("images", "labels", "origin"):
            array = getattr(self, part)
            row = array.nbytes // len(array)
            first, last = max(0, (start - array.offset) // row), min(len(array),
                                                                     -((array.offset - stop) // row))
            if first < last:
                yield f"{self.name}/{part}: rows {first} to {last - 1}"


@dataclass
class Dataset:
    """An open packed file."""

    path: str
    train: Split
    test: Split
    classes: list  # names in label order; empty when the targets are not classes
    layout: str  # HW, HWC or "" (rows go to the model as they are)
    # float32, of the training images: per channel of HWC, per feature of vectors, else one number
    mean: np.ndarray
    std: np.ndarray
    digest: str
    seal: Seal
    labelled: bool = True  # whether the targets are of the source, and not zeros for want of any

    @property
    def target(self):
        """Describe the targets, for errors."""
        return (f"{len(self.classes)} classes" if self.classes
                else f"{self.train.labels.dtype} targets of shape {self.train.labels.shape[1:]}")

    def check(self, part, parts, verify, order="global"):
        """Check what rank `part` of `parts` works with: some row of its own, labels within the classes, and
        the seal. Raises InputError.

        verify: whether to read the blocks of the seal; if not, only those that have holes, so that a file
        which is not there in full is never trusted. order: "shard", and the rank checks the `blocks` that it
        needs; "global", and it checks its share of all. In both, all ranks together read every byte.
        """
        self.check_ranks(parts)
        blocks = (self.blocks(part, part + 1, parts) if order == "shard"
                  else shard(len(self.seal.sums), part, parts))
        check_seal(self.path, inside=self.inside,
                   blocks=blocks if verify else np.intersect1d(blocks, blocks_with_holes(self.path)))
        for split in (self.train, self.test):
            if self.classes:
                own = shard(len(split), part, parts)
                check_labels(split.labels[own.start : own.stop], len(self.classes),
                             f"{self.path}: {split.name}/labels", own.start)

    def check_ranks(self, parts):
        """Raise InputError unless each of `parts` ranks owns some training sample."""
        if parts > len(self.train):
            raise InputError(f"{self.path}: got {parts} ranks for {len(self.train)} training samples, "
                             "expected at most one rank per sample")

    def blocks(self, first, last, parts):
        """Which blocks of the seal the ranks `first` to `last` - 1 of `parts` need in shard order.
        Returns int64 (m,), ascending.

        Those with bytes of rows that they own, and those with bytes of no row at all, which any rank may
        read when it opens the file.
        """
        limits = np.minimum(np.arange(len(self.seal.sums) + 1) * BLOCK, self.seal.length)
        # rest: bytes of each block that are no row's
        rest, needed = np.diff(limits), np.zeros(len(self.seal.sums), bool)
        for array in (part for split in (self.train, self.test)
                      for part in (split.images, split.labels, split.origin)):
            rest -= np.diff(np.clip(limits, array.offset, array.offset + array.nbytes))
            row = array.nbytes // len(array)
            start, stop = (array.offset + row * int(begin(len(array), parts, rank)) for rank in (first, last))
            if start < stop:
                needed[start // BLOCK : -(-stop // BLOCK)] = True
        return np.flatnonzero(needed | (rest > 0))

    def inside(self, start, stop):
        """Which rows lie in bytes [start, stop) of the file, in words for an error. Returns str."""
        found = [*self.train.inside(start, stop), *self.test.inside(start, stop)]
        return f"({', '.join(found)}) " if found else ""


def open_packed(path):
    """Open a packed file without reading its rows. Returns Dataset.

    Raises InputError when the file is missing, truncated, not packed by hpcfilter or, as far as can be seen
    without reading all of it, damaged.
    """
    path = str(path)
    make = f"make one with: hpcfilter pack {_source(path)} -o PACKED.h5"
    with open_hdf5(path, f"a packed file; {make}") as file:
        if "hpcfilter" not in file.attrs:
            raise InputError(f"{path}: not a packed file of format {FORMAT}; {make}")
        seal = read_seal(path)
        form, text, digest = (read_attribute(file, name) for name in ("hpcfilter", "about", "digest"))
        if form != FORMAT or not isinstance(text, str) or not isinstance(digest, str):
            raise InputError(f"{path}: got a packed file of format {form}, expected {FORMAT}, "
                             "with about and digest; pack it again")
        train, test = (Split(name, *(own_array(file, f"{name}/{part}")
                                     for part in ("images", "labels", "origin")), digest)
                       for name in ("train", "test"))
    about = _about(path, text)
    for split in (train, test):
        rows, labels, lengths = split.images.shape[1:], split.labels, {len(split), len(split.labels),
                                                                       len(split.origin)}
        if (len(lengths) > 1 or rows != train.images.shape[1:]
                or (about.classes and (labels.ndim > 1 or labels.dtype.kind not in "ui"))):
            raise InputError(f"{path}: {split.name}: got images of shape {split.images.shape} and "
                             f"{labels.dtype} labels of shape {labels.shape}, expected as many, "
                             f"rows of shape {train.images.shape[1:]} and, for classes, integers (n,)")
        split.read_alone()
    for numbers in (about.mean, about.std):
        if len(numbers) not in (1, train.images.shape[-1]):
            raise InputError(f"{path}: about: got means or deviations of {len(numbers)} channels, "
                             f"expected 1 or {train.images.shape[-1]}")
    moments = np.array(about.mean, np.float32), np.array(about.std, np.float32)
    return Dataset(path, train, test, about.classes, about.layout, *moments, digest, seal,
                   labelled=about.targets != "none")


def _source(path):
    """What to pack, in words for a shell: what stands at `path`, if it is of a kind that may
    hold a data set."""
    with suppress(OSError):
        if kind(path) in ("", "a folder", "an HDF5 file", "a zip archive, as .npz files are", "a .npy file",
                          "a gzip file"):
            return shlex.quote(path)
    return "SOURCE"


def _about(path, text):
    """The attribute `about`, read. Raises InputError naming the first entry that makes no sense."""
    try:
        return About.model_validate_json(text)
    except ValidationError as error:
        keys, problem = describe(error, About, {})
        raise InputError(f"{path}: {'.'.join(['about', *keys])}: {one_line(problem)}") from None


def is_packed(path):
    """Whether `path` is a file that `pack` has made, whole or damaged."""
    try:
        with open_hdf5(path) as file:
            return "hpcfilter" in file.attrs
    except InputError:
        return False


def check_labels(labels, classes, where, first=0):
    """Raise InputError when a class label is outside [0, classes). labels: integer (n,), of the
    rows from `first` on."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise InputError(f"{where}: label {labels[wrong[0]]} in row {first + wrong[0]}, "
                         f"expected 0 to {classes - 1} ({classes} classes)")
