"""What the name of an array, a file or a folder says: of which split it is, and whether it
holds rows or labels.

    x_train, trainX, train/images, valid_labels, emnist-letters-train-images-idx3-ubyte, y.npy
"""

import re
from dataclasses import dataclass

from hpcfilter.base.errors import InputError

SPLITS = {"train": ("train", "training", "tr", "trn"),
          "val": ("val", "valid", "validation", "validate", "dev", "eval", "evaluation"),
          "test": ("test", "testing", "te", "tst", "t10k", "holdout")}
ROLES = {"images": ("x", "image", "images", "img", "imgs", "input", "inputs", "feature", "features", "sample",
                    "samples", "pixels", "rows"),
         "labels": ("y", "label", "labels", "target", "targets", "class")}
FILLERS = {"data", "dataset", "set", "array", "idx1", "idx2", "idx3", "idx4", "ubyte", "int", "gz", "npy",
           "npz", "h5", "hdf5"}

_SPLIT = {word: split for split, words in SPLITS.items() for word in words}
_ROLE = {word: role for role, words in ROLES.items() for word in words}
# trainset, val2017
_SET = re.compile(f"({'|'.join(sorted(_SPLIT, key=len, reverse=True))})(set|data)?[0-9]*")
_GLUED = {glued: (role, split) for role in "xy" for split in _SPLIT
          for glued in (f"{role}{split}", f"{split}{role}")}


@dataclass(frozen=True)
class Meaning:
    """What a name says. split: train, val, test, or "" when it names none. role: images, labels or "".
    rest: the words that say neither."""

    split: str
    role: str
    rest: tuple


def words(name):
    """The words of a name, in lower case: at each change from small to capital letters, and at everything
    that is no letter or digit."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", str(name)).lower()
    found = [word for word in re.split(r"[^a-z0-9]+", apart) if word]
    return [part for word in found
            for part in (_SET.fullmatch(word).groups() if _SET.fullmatch(word) else [word]) if part]


def meaning(name):
    """Read a name. Returns Meaning. The word `data` means the rows where nothing else does, as in
    train_data beside train_labels."""
    split, role, rest, filled = "", "", [], False
    for word in words(name):
        if word in _GLUED:
            first, second = _GLUED[word]
            role, split = role or _ROLE[first], split or _SPLIT[second]
        elif word in _SPLIT and not split:
            split = _SPLIT[word]
        elif word in _ROLE and not role:
            role = _ROLE[word]
        elif word in FILLERS:
            filled = filled or word == "data"
        else:
            rest.append(word)
    return Meaning(split, role or ("images" if filled else ""), tuple(rest))


def split_of(name):
    """The split that a folder or file is named after, and by nothing else: "train", "val", "test", or "". Two
    letters are no name of a folder."""
    found = meaning(name) if not {"tr", "te"} & set(words(name)) else Meaning("", "", ())
    return found.split if found.split and not found.rest and found.role in ("", "images") else ""


def pairs(names, where, images=None, labels=None):
    """Which names are the rows and the labels of which split.

    names: iterable of str. where: the source, for errors. images, labels: what the user calls them
    (--images, --labels), instead of the usual words. Returns (split -> {role: name}, names that are not
    used). The split is "" where the names tell none. Raises InputError when two names mean the same, or
    nothing is named as the user says.
    """
    wanted = {"images": images, "labels": labels}
    found, unused = {}, []
    for name in names:
        split, role = _meant(name, wanted)
        if not role:
            unused.append(name)
        elif (other := found.setdefault(split, {}).setdefault(role, name)) != name:
            raise InputError(f"{where}: both '{other}' and '{name}' may be the "
                             f"{role}{split and ' of ' + split}; say which: --{role} NAME")
    for role, name in wanted.items():
        if name and not any(role in split for split in found.values()):
            raise InputError(f"{where}: --{role}: found no array named {name}; "
                             f"there are {listed(unused) or 'none'}")
    return found, unused


def _meant(name, wanted):
    """(split, role) of a name, role "" for one that is neither."""
    found = meaning(name)
    for role, own in wanted.items():
        if own and (name == own or [word for word in words(name) if word not in _SPLIT] == words(own)):
            return found.split, role
    if found.rest or not found.role or wanted[found.role]:
        return found.split, ""
    return found.split, found.role


def listed(names, most=12):
    """Names for a person: the first few, and how many more there are.

    A long one loses its middle: of a path, the end says which file it is.
    """
    names = [str(name) for name in names]
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(_short(" ".join(name.split())) for name in names[:most]) + more


def _short(name, most=80):
    half = (most - 3) // 2
    return name if len(name) <= most else f"{name[:half]}...{name[-half:]}"


def in_order(names):
    """Names in the order in which a person numbers them: part2 before part10."""
    return sorted(names, key=lambda name: [(int(part), "") if part.isdigit() else (-1, part)
                                           for part in re.split(r"(\d+)", str(name)) if part])
