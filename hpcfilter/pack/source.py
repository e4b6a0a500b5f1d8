"""What a source gives to `pack`: the rows and labels of each split, and what is to be said of them."""

from dataclasses import dataclass, field

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.pack.images import ImageFiles
from hpcfilter.pack.names import listed

KINDS = "uifb"  # numpy's letters: unsigned, signed, floating-point, truth values


class Words:
    """Labels that are words. codes: int64 (n,). names: list of str, the word of each code."""

    def __init__(self, codes, names):
        self.codes, self.names = np.asarray(codes, np.int64), list(names)
        self.shape, self.dtype = self.codes.shape, np.dtype(object)

    @classmethod
    def of(cls, texts):
        """texts: array (n,) of str or bytes."""
        names, codes = np.unique(texts, return_inverse=True)
        return cls(codes, [name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name)
                           for name in names.tolist()])


@dataclass
class Part:
    """One split. images: array-like with shape, dtype and slices along the first axis. labels: the same,
    Words, or None. where: its arrays or files.

    Besides, images may have `chunk_rows` (rows that are decoded together), `damaged` (row -> why it cannot be
    read, of the rows read so far), `settle` (see ImageFiles) and `named` (row -> its name for a person).
    """

    images: object
    labels: object
    where: str = ""
    columns: tuple | None = None  # of a table: the label, then the others


@dataclass
class Notes:
    """What is to be said of a source: `left_out` and `said` (guessed, changed or odd), each a list of str."""

    left_out: list = field(default_factory=list)
    said: list = field(default_factory=list)


@dataclass
class Source:
    """Rows to pack. parts: split (train, val or test) -> Part. classes: names in label order, where the
    source has them. layout: of a row, and kind: what the labels are, where it is certain, else None."""

    name: str
    parts: dict
    classes: list | None = None
    layout: str | None = None
    kind: str | None = None
    notes: Notes = field(default_factory=Notes)


class Joined:
    """Arrays of several files, one behind the other. arrays: array-likes of equal rows. wheres: a
    name of each, for errors."""

    def __init__(self, arrays, wheres):
        first = arrays[0]
        for array, where in zip(arrays, wheres, strict=True):
            if array.shape[1:] != first.shape[1:]:
                raise InputError(f"{where}: got rows of shape {array.shape[1:]}, expected {first.shape[1:]} "
                                 f"as in {wheres[0]}")
            if not mean_the_same(array.dtype, first.dtype):
                raise InputError(f"{where}: got values of type {array.dtype}, expected {first.dtype} as in "
                                 f"{wheres[0]}; bring all to one type")
        self._arrays, self._ends = arrays, np.cumsum([0, *(array.shape[0] for array in arrays)]).tolist()
        self.shape, self.dtype = ((self._ends[-1], *first.shape[1:]),
                                  np.result_type(*(array.dtype for array in arrays)))
        if self.dtype.kind == "f" and all(array.dtype.kind in "iu" for array in arrays):
            self.dtype = np.dtype(np.int64)  # of uint64 beside int64 numpy would make floating-point numbers
        self.chunk_rows = max(getattr(array, "chunk_rows", 1) for array in arrays)

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(self.shape[0])
        pieces = [np.asarray(array[max(start, begin) - begin : min(stop, end) - begin])
                  for array, begin, end in zip(self._arrays, self._ends[:-1], self._ends[1:], strict=True)
                  if begin < stop and start < end]
        return (np.concatenate(pieces).astype(self.dtype, copy=False) if pieces
                else np.empty((0, *self.shape[1:]), self.dtype))


def join(parts):
    """Several Parts of one split as one. Raises InputError when their rows are of other shapes or types, or
    only some have labels."""
    if len(parts) == 1:
        return parts[0]
    for part in parts:
        if part.columns != parts[0].columns:
            raise InputError(f"{part.where}: has the columns {listed(part.columns)}, "
                             f"expected {listed(parts[0].columns)} as {parts[0].where}; "
                             "write them under one name and in one order, the label first here")
    wheres, labels = [part.where for part in parts], [part.labels for part in parts]
    if any(label is None for label in labels) != all(label is None for label in labels):
        raise InputError(f"{wheres[[label is None for label in labels].index(True)]}: "
                         "has no labels, expected some as in the other files")
    if any(isinstance(label, Words) for label in labels):
        labels = _join_words(labels, wheres)
    elif labels[0] is not None:
        labels = Joined(labels, wheres)
    else:
        labels = None
    images = [part.images for part in parts]
    images = (ImageFiles.joined(images) if all(isinstance(one, ImageFiles) for one in images)
              else Joined(images, wheres))
    return Part(images, labels, columns=parts[0].columns,
                where=f"{len(parts)} files, {wheres[0]} to {wheres[-1]}")


def _join_words(labels, wheres):
    if not all(isinstance(label, Words) for label in labels):
        raise InputError(f"{wheres[0]}: has words as labels and {wheres[-1]} numbers, or the other way "
                         "round; expected one kind")
    names = sorted({name for label in labels for name in label.names})
    place = {name: code for code, name in enumerate(names)}
    return Words(np.concatenate([np.array([place[name] for name in label.names], np.int64)[label.codes]
                                 for label in labels]), names)


def mean_the_same(one, other):
    """Whether numbers of two types may stand in one array: bytes and floating-point numbers, or bytes and 16
    bits, have other scales."""
    wide = {dtype for dtype in (one, other) if dtype.kind in "iu" and dtype.itemsize >= 4}
    floats = {dtype for dtype in (one, other) if dtype.kind == "f"}
    return one == other or one.newbyteorder("=") == other.newbyteorder("=") or wide | floats == {one, other}


def check_type(where, dtype):
    """Raise InputError unless torch can train on numbers of this type."""
    what = {"c": "complex numbers; store real and imaginary parts side by side",
            "O": "Python objects (rows of unequal lengths, or a mixture), which only pickle can store; "
                 "save an array of one shape and of numbers, and words as text: labels.astype(str)",
            "M": "dates; store them as numbers", "m": "durations; store them as numbers",
            "V": "records of several fields; store each as an array",
            "U": "words; expected numbers, and words only as labels",
            "S": "words; expected numbers, and words only as labels"}.get(dtype.kind)
    if dtype.kind == "f" and dtype.itemsize > 8:
        what = "numbers of more than 64 bits; convert them with array.astype(numpy.float64)"
    if what or dtype.kind not in KINDS:
        raise InputError(f"{where}: holds {what or f'values of type {dtype}, expected numbers'}")
