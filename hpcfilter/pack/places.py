"""Where every row of a source goes, what its labels are, and the layout."""

from dataclasses import dataclass

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.pack.images import ImageFiles
from hpcfilter.pack.layout import layout_of
from hpcfilter.pack.source import check_type, mean_the_same
from hpcfilter.pack.splits import count_held, places
from hpcfilter.pack.targets import make_targets


@dataclass
class Places:
    """Where every row goes. parts: split of the source -> Part. labels: split of the source -> array-like.
    place: split of the file -> (split of the source, int64 (rows,) its row in the file or -1)."""

    parts: dict
    labels: dict
    place: dict
    classes: list
    layout: str
    none: bool

    def rows(self, split):
        """How many rows a split of the file has."""
        return int(self.place[split][1].max(initial=-1)) + 1


def places_of(opened, parts, dropped, options):
    """Where every row goes, what the labels are, and the layout."""
    if all(isinstance(part.images, ImageFiles) for part in parts.values()):
        ImageFiles.agree([part.images for part in parts.values()])
    for split, part in parts.items():
        count = None if part.labels is None else part.labels.shape[0]
        if part.images.shape[0] == 0 or count not in (None, part.images.shape[0]):
            raise InputError(f"{opened.name}: {split}: got {part.images.shape[0]} images and {count} labels "
                             f"({part.where}), expected as many, and some")
        if 0 in part.images.shape[1:]:
            raise InputError(f"{opened.name}: {part.where}: got rows of shape {part.images.shape[1:]}, "
                             "which hold nothing")
        check_type(f"{opened.name}: {part.where}", part.images.dtype)
        _check_alike(opened, parts["train"], part)
    targets = make_targets(parts, opened.classes, options.kind, options.renumber, opened.name, opened.notes)
    rows = parts["train"].images.shape[0]
    gone = {split: np.array(sorted(found), np.int64) for split, found in dropped.items()}
    held = 0 if "test" in parts else count_held(options.test_fraction, rows - len(gone["train"]), opened.name)
    by_class = targets.labels["train"] if targets.classes and held and options.by_class else None
    place = {split: ("train", found)
             for split, found in places(rows, gone["train"], held, by_class, options.seed).items()}
    if "test" in parts:
        kept = np.ones(parts["test"].images.shape[0], bool)
        kept[gone["test"]] = False
        place["test"] = "test", np.where(kept, np.cumsum(kept) - 1, -1)
    layout = layout_of(parts["train"].images, options.layout,
                       opened.layout or getattr(parts["train"].images, "layout", None), opened.notes)
    plan = Places(parts, targets.labels, place, targets.classes, layout, targets.none)
    for split in place:
        if not plan.rows(split):
            raise InputError(f"{opened.name}: no {split} row is left; "
                             "every class has one row only, or all rows are left out; give --split random, "
                             "or --regression when the labels are numbers")
    return plan


def _check_alike(opened, train, part):
    """Raise InputError unless the rows of a split are of the shape and the kind of numbers that the
    training rows are of."""
    shape, expected = part.images.shape[1:], train.images.shape[1:]
    way_out = "; give --size HEIGHTxWIDTH to bring all to one" if isinstance(part.images, ImageFiles) else ""
    if shape != expected:
        raise InputError(f"{opened.name}: test rows of shape {shape} ({part.where}), expected {expected} as "
                         f"in training{way_out}")
    if not shape:
        raise InputError(f"{opened.name}: {part.where}: got rows of a single number each; "
                         "expected shape (n, 1)")
    if not mean_the_same(part.images.dtype, train.images.dtype):
        raise InputError(f"{opened.name}: got test rows of type {part.images.dtype} ({part.where}), "
                         f"expected {train.images.dtype} as in training: their values do not mean the same; "
                         "bring both to one type")
