"""Labels become classes, or stay numbers."""

import re

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.data.packed import check_labels
from hpcfilter.pack.names import listed
from hpcfilter.pack.source import Words, check_type

_NUMBER = re.compile(r"-?[0-9]+([.][0-9]+)?")
MANY = 1000  # classes from which on labels that are nearly all different are no classes
KINDS = "classes", "numbers", "one-hot"


class Targets:
    """labels: split -> array-like. classes: names in label order, [] for numbers. none: whether the source
    has no labels, so that they are zeros."""

    def __init__(self, labels, classes=(), none=False):
        self.labels, self.classes, self.none = labels, list(classes), none


def make_targets(parts, names, kind, renumber, where, notes):
    """The labels of the splits that are packed.

    parts: split -> Part. names: of the classes where the source has them, or None. kind: what they are, of
    KINDS, or None: integers of one value per row and words are classes, all else numbers. renumber: number
    the classes anew, by the labels that occur. where: the source, for errors. Returns Targets. Raises
    InputError for labels that cannot be what they are to be.
    """
    labels = {split: part.labels for split, part in parts.items()}
    if all(label is None for label in labels.values()):
        notes.said.append("there are no labels; targets are zeros, which no loss needs but that of loss.name "
                          "= \"reconstruction\"")
        return Targets({split: np.zeros(part.images.shape[0], np.float32) for split, part in parts.items()},
                       none=True)
    for split, label in labels.items():
        if label is None:
            raise InputError(f"{where}: {parts[split].where}: has no labels, expected some as the other "
                             "split has")
        if not isinstance(label, Words):
            check_type(parts[split].where, label.dtype)
    if any(isinstance(label, Words) for label in labels.values()):
        return _of_words(labels, names, kind, where)
    _check_alike(parts, kind, where)
    if kind == "one-hot" or (kind is None and all(map(_is_one_hot, labels.values()))):
        return _of_one_hot(parts, labels, names, kind, where)
    if kind == "numbers" or any(np.prod(label.shape[1:]) != 1 for label in labels.values()):
        if kind == "classes":
            raise InputError(f"{where}: --classes: got labels of shape {next(iter(labels.values())).shape}, "
                             "expected one per row")
        return Targets(labels)
    if any(label.dtype.kind == "f" for label in labels.values()):
        return _of_floats(labels, names, kind, renumber, where, notes)
    return _of_integers({split: np.asarray(label[:]).reshape(-1) for split, label in labels.items()}, names,
                        renumber, where, notes)


def _check_alike(parts, kind, where):
    """Raise InputError when the labels of two splits are of other shapes, or whole numbers in one and
    floating-point numbers in the other."""
    (first, one), *others = parts.items()
    for split, part in others:
        shapes = [tuple(side for side in labels.shape[1:] if side != 1)
                  for labels in (one.labels, part.labels)]
        if shapes[0] != shapes[1]:
            raise InputError(f"{where}: got {split} labels of shape {part.labels.shape} ({part.where}) and "
                             f"{first} labels of shape {one.labels.shape}, expected rows alike")
        if kind is None and (one.labels.dtype.kind == "f") != (part.labels.dtype.kind == "f"):
            raise InputError(f"{where}: got {split} labels of type {part.labels.dtype} ({part.where}) and "
                             f"{first} labels of type {one.labels.dtype}; bring them to one type, "
                             "or give --classes or --regression")


def _of_words(labels, names, kind, where):
    if kind == "numbers" and all(_NUMBER.fullmatch(name) for label in labels.values()
                                 for name in label.names):
        return Targets({split: np.array([float(name) for name in label.names])[label.codes]
                        for split, label in labels.items()})
    if kind in ("numbers", "one-hot"):
        raise InputError(f"{where}: the labels are words, such as '{next(iter(labels.values())).names[0]}', "
                         "expected numbers")
    if not all(isinstance(label, Words) for label in labels.values()):
        raise InputError(f"{where}: the labels of one split are words and those of another numbers; "
                         "expected one kind")
    found = sorted({name for label in labels.values() for name in label.names})
    rows = sum(len(label.codes) for label in labels.values())
    if len(found) > max(MANY, rows // 2):
        raise InputError(f"{where}: got {len(found)} different words as labels of {rows} rows, "
                         f"such as '{found[0]}'; expected the names of classes")
    if any(not name.strip() for name in found):
        raise InputError(f"{where}: some labels are empty words; expected a class for every row")
    if all(re.fullmatch(r"-?[0-9]+", name) for name in found):
        found.sort(key=int)
    if names and set(found) <= set(names):
        found = names
    place = {name: code for code, name in enumerate(found)}
    return Targets({split: np.array([place[name] for name in label.names], np.int64)[label.codes]
                    for split, label in labels.items()}, found)


def _is_one_hot(label):
    """Whether each row is one 1 and zeros else."""
    if len(label.shape) != 2 or label.shape[1] < 2:
        return False
    for start in range(0, label.shape[0], 1 << 16):
        values = np.asarray(label[start : start + (1 << 16)])
        if not (np.isin(values, (0, 1)).all() and (values.astype(np.int64).sum(axis=1) == 1).all()):
            return False
    return True


def _of_one_hot(parts, labels, names, kind, where):
    odd = [split for split, label in labels.items() if not _is_one_hot(label)]
    if odd:
        raise InputError(f"{where}: --one-hot: {parts[odd[0]].where}: "
                         f"got labels of shape {labels[odd[0]].shape}, expected rows of one 1 and zeros else")
    count = next(iter(labels.values())).shape[1]
    if kind is None:
        raise InputError(f"{where}: the labels look one-hot, rows of one 1 among {count} numbers; "
                         f"give --one-hot to take them as {count} classes, or --regression to keep them "
                         "as numbers")
    if names and len(names) != count:
        raise InputError(f"{where}: got {len(names)} names of classes for one-hot labels of {count}")
    codes = {split: np.asarray(label[:]).argmax(axis=1).astype(np.int64) for split, label in labels.items()}
    return Targets(codes, names or map(str, range(count)))


def _of_floats(labels, names, kind, renumber, where, notes):
    """Floating-point numbers are classes only when the user says so."""
    whole = {split: np.asarray(label[:]).reshape(-1) for split, label in labels.items()}
    values = np.concatenate(list(whole.values())).astype(np.float64)
    as_classes = (bool(np.isfinite(values).all()) and bool((values == np.rint(values)).all())
                  and np.abs(values).max() < 2**53)
    if kind == "classes":
        if not as_classes:
            raise InputError(f"{where}: --classes: got labels that are no whole numbers, "
                             f"such as {values[values != np.rint(values)][0]}")
        return _of_integers({split: label.astype(np.int64) for split, label in whole.items()}, names,
                            renumber, where, notes)
    if as_classes and values.min() >= 0 and (many := len(np.unique(values))) <= min(MANY, len(values) // 2):
        notes.said.append(f"the labels are {next(iter(labels.values())).dtype} and {many} whole numbers, "
                          f"{values.min():g} to {values.max():g}: taken as numbers, with squared error; "
                          "--classes takes them as classes")
    return Targets(labels)


def _of_integers(labels, names, renumber, where, notes):
    values = np.concatenate(list(labels.values()))
    if renumber:
        found = np.unique(values)
        if names:
            for label in labels.values():
                check_labels(label, len(names), where)
        called = [names[label] for label in found] if names else map(str, found)
        return Targets({split: np.searchsorted(found, label).astype(np.int64)
                        for split, label in labels.items()}, called)
    most, least = int(values.max()), int(values.min())
    if names is None and most >= len(values):
        raise InputError(f"{where}: got labels up to {most} in {len(values)} rows, expected classes 0, 1, 2, "
                         "...; give --regression when they are numbers, --renumber to number the "
                         "classes anew")
    if least < 0 and names is None:
        raise InputError(f"{where}: label {least} in row {int(values.argmin())}, expected classes from 0 on; "
                         "give --regression when they are numbers, --renumber to number the classes anew")
    labels = {split: label.astype(np.int64) for split, label in labels.items()}
    names = names or [str(label) for label in range(most + 1)]
    for label in labels.values():
        check_labels(label, len(names), where)
    distinct = len(np.unique(values))
    if len(values) > 2 and distinct > max(20, len(values) // 2):
        notes.said.append(f"the labels have {distinct} values in {len(values)} rows and are taken as "
                          "classes; give --regression when they are numbers")
    return Targets(labels, names)


def say_empty(classes, counts, notes):
    """A word on classes without a row. counts: split -> int64 (classes,)."""
    none = np.flatnonzero(sum(counts.values()) == 0)
    untrained = np.flatnonzero((counts["train"] == 0) & (sum(counts.values()) > 0))
    if len(none):
        notes.said.append(f"{len(none)} of {len(classes)} classes have no row at all: "
                          f"{listed(classes[label] for label in none)}")
    if len(untrained):
        notes.said.append(f"{len(untrained)} classes have no training row, only test rows: "
                          f"{listed(classes[label] for label in untrained)}")
    if len(classes) - len(none) == 1:
        notes.said.append("all rows are of one class, "
                          f"{classes[int(np.flatnonzero(sum(counts.values()))[0])]}; "
                          "there is nothing to tell apart")
