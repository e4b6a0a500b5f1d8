"""`hpcfilter pack`: any source becomes one packed file, shuffled once.

Each source row is read once, in the source's own order, and written to its place in the shuffled file through a memory map, so that no more rows than
those of one slice are in memory, whatever the size. The shuffle is what makes contiguous blocks of the file fair shares of the data. When reading
shows that the rows are not what they were taken for (other kinds of images, damaged ones that are to be left out), the file is filled once more.
"""

import hashlib
import json
import os
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcfilter.base.errors import BrokenInvariant, InputError
from hpcfilter.base.paths import check_output
from hpcfilter.data.distrust import allowing, damage
from hpcfilter.data.hdf5 import create_hdf5, lay_out, open_hdf5, write_attribute
from hpcfilter.data.packed import FORMAT, is_packed, open_packed
from hpcfilter.data.seal import seal
from hpcfilter.pack.damaged import drop_damaged
from hpcfilter.pack.found import describe, plain_text
from hpcfilter.pack.images import ImageFiles
from hpcfilter.pack.layout import layout_of
from hpcfilter.pack.source import check_type, mean_the_same
from hpcfilter.pack.sources import Reading, open_source, paths_of
from hpcfilter.pack.splits import count_held, places
from hpcfilter.pack.targets import make_targets
from hpcfilter.pack.values import Moments, Values, say_precision
from hpcfilter.record.progress import progress

SLICE_BYTES = 16 << 20


@dataclass(frozen=True)
class Options:
    """How the rows are dealt and the labels taken; see `pack`."""

    seed: int
    test_fraction: float
    by_class: bool
    kind: str | None
    renumber: bool
    layout: str | None


@dataclass
class Plan:
    """Where every row goes. parts: split of the source -> Part. labels: split of the source -> array-like. place: split of the file -> (split of the
    source, int64 (rows,) its row in the file or -1)."""

    parts: dict
    labels: dict
    place: dict
    classes: list
    layout: str
    none: bool

    def rows(self, split):
        """How many rows a split of the file has."""
        return int(self.place[split][1].max(initial=-1)) + 1


def pack(source, target, seed=0, test_fraction=None, size=None, regression=False, layout=None, replace=False, *, kind=None, renumber=False,
         by_class=None, test_split=None, images=None, labels=None, first_frame=False, skip_damaged=0, allow_compression=None):
    """Pack a source. Returns the file's own description (dict: name, classes, layout, mean, std, rows, found, ...).

    source: path, pattern or list of paths; see pack/sources.py. target: path of the .h5 file. seed: of the shuffle.
    test_fraction: share split off when the source has no test rows (default 0.2); by_class: from each class alike (default). test_split: "test" or
    "val", the rows to test with where the source has both; default test. size: (height, width) for image files.
    regression: keep integer targets as numbers; or kind: "classes", "numbers" or "one-hot". renumber: number the classes anew.
    layout: "HW", "HWC" or "" (default: guessed where it is certain). images, labels: names of arrays or columns that are not the usual ones.
    first_frame: take the first picture of files that hold several. skip_damaged: most rows that may be left out since they are damaged or not finite.
    allow_compression: how many times its stored bytes a file may become. replace: overwrite the target.
    Raises InputError for a source that cannot be packed; the target is written under a temporary name and renamed, or not there at all.
    """
    _check_target(target, source, replace)
    target = Path(target)
    temporary = target.with_name(f"{target.name}.part{os.getpid()}")
    try:
        with allowing(allow_compression), damage(f"{_named(source)} to {target}"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on images that it reads all the same
            opened = open_source(source, Reading(size, images, labels, first_frame))
            parts = _chosen(opened, test_split)
            _refuse_idle(opened, parts, {"--size": size, "--first-frame": first_frame}, {"--test-fraction": test_fraction, "--split": by_class})
            options = Options(seed, 0.2 if test_fraction is None else test_fraction, by_class is not False,
                              "numbers" if regression else kind or opened.kind, renumber, layout)
            about = _pack(opened, parts, temporary, options, skip_damaged, source)
            seal(temporary)
        _prove(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return about


def _check_target(target, source, replace):
    """Refuse, before any work, a target that cannot be written or must not be overwritten."""
    sources = [] if str(source) == "digits" else paths_of(source)
    check_output(target, sources)
    target = Path(target)
    if target.exists() and not replace:
        raise InputError(f"{target}: is there already; give --replace to overwrite it")
    inside = [folder for folder in sources if folder.is_dir() and folder.resolve() in target.resolve().parents]
    if target.exists() and inside and not is_packed(target):
        raise InputError(f"{target}: the output would overwrite what lies in its source {inside[0]}; give another --output")


def _chosen(opened, test_split):
    """The splits that are packed: "train", and "test" where the source has rows to test with."""
    parts, notes = opened.parts, opened.notes
    others = [split for split in ("test", "val") if split in parts]
    if test_split and test_split not in others:
        raise InputError(f"{opened.name}: --test-split: got {test_split}, but the source has {' and '.join(parts)}")
    chosen = test_split or (others[0] if others else None)
    for split in others:
        if split != chosen:
            notes.left_out.append(f"the {parts[split].images.shape[0]} rows of the split {split} ({parts[split].where}); "
                                  f"a packed file has one split to test with, here {chosen}: --test-split {split} takes the other")
    return {"train": parts["train"], **({"test": parts[chosen]} if chosen else {})}


def _refuse_idle(opened, parts, of_images, of_split):
    """Raise InputError for options that would come to nothing. of_images, of_split: option -> its value."""
    arrays = not any(isinstance(part.images, ImageFiles) for part in parts.values())
    for option, value in of_images.items():
        if value and arrays:
            raise InputError(f"{option}: is for image files, and {opened.name} holds arrays; leave it out")
    for option, value in of_split.items():
        if value is not None and "test" in parts:
            raise InputError(f"{option}: is for a source without test rows, and {opened.name} has some ({parts['test'].where}); leave it out")


def _pack(opened, parts, path, options, skip_damaged, source):
    """Fill the file, again when reading has shown that it must be planned anew. Returns its description."""
    dropped, said = {split: {} for split in parts}, list(opened.notes.said)
    while True:
        opened.notes.said = list(said)
        plan = _plan(opened, parts, dropped, options)
        _create(path, plan)
        moments, values = _fill(path, plan, opened)
        wrong = drop_damaged(parts, values, dropped, skip_damaged, opened)
        if not wrong and not any([part.images.settle() for part in parts.values() if hasattr(part.images, "settle")]):
            break
    mean, std = moments.mean_std(each=plan.layout == "HWC" or len(parts["train"].images.shape) == 2)
    rows = {split: plan.rows(split) for split in plan.place}
    say_precision(moments, values["train"]["labels"], opened.notes)
    about = {"name": plain_text(opened.name), "classes": [plain_text(name) for name in plan.classes], "layout": plan.layout, "mean": mean, "std": std,
             "seed": options.seed, "source": plain_text(_named(source)), "rows": rows, **({"targets": "none"} if plan.none else {}),
             "found": describe(opened, parts, plan, values, options)}
    _describe(path, about)
    return about


def _named(source):
    """The name of a path or pattern, or how many there are."""
    return Path(source).name if isinstance(source, str | Path) else f"{len(source)} paths"


def _plan(opened, parts, dropped, options):
    """Where every row goes, what the labels are, and the layout."""
    if all(isinstance(part.images, ImageFiles) for part in parts.values()):
        ImageFiles.agree([part.images for part in parts.values()])
    for split, part in parts.items():
        count = None if part.labels is None else part.labels.shape[0]
        if part.images.shape[0] == 0 or count not in (None, part.images.shape[0]):
            raise InputError(f"{opened.name}: {split}: got {part.images.shape[0]} images and {count} labels ({part.where}), "
                             "expected as many, and some")
        if 0 in part.images.shape[1:]:
            raise InputError(f"{opened.name}: {part.where}: got rows of shape {part.images.shape[1:]}, which hold nothing")
        check_type(f"{opened.name}: {part.where}", part.images.dtype)
        _check_alike(opened, parts["train"], part)
    targets = make_targets(parts, opened.classes, options.kind, options.renumber, opened.name, opened.notes)
    rows = parts["train"].images.shape[0]
    gone = {split: np.array(sorted(found), np.int64) for split, found in dropped.items()}
    held = 0 if "test" in parts else count_held(options.test_fraction, rows - len(gone["train"]), opened.name)
    by_class = targets.labels["train"] if targets.classes and held and options.by_class else None
    place = {split: ("train", found) for split, found in places(rows, gone["train"], held, by_class, options.seed).items()}
    if "test" in parts:
        kept = np.ones(parts["test"].images.shape[0], bool)
        kept[gone["test"]] = False
        place["test"] = "test", np.where(kept, np.cumsum(kept) - 1, -1)
    layout = layout_of(parts["train"].images, options.layout, opened.layout or getattr(parts["train"].images, "layout", None), opened.notes)
    plan = Plan(parts, targets.labels, place, targets.classes, layout, targets.none)
    for split in place:
        if not plan.rows(split):
            raise InputError(f"{opened.name}: no {split} row is left; every class has one row only, or all rows are left out; "
                             "give --split random, or --regression when the labels are numbers")
    return plan


def _check_alike(opened, train, part):
    """Raise InputError unless the rows of a split are of the shape and the kind of numbers that the training rows are of."""
    shape, expected = part.images.shape[1:], train.images.shape[1:]
    way_out = "; give --size HEIGHTxWIDTH to bring all to one" if isinstance(part.images, ImageFiles) else ""
    if shape != expected:
        raise InputError(f"{opened.name}: test rows of shape {shape} ({part.where}), expected {expected} as in training{way_out}")
    if not shape:
        raise InputError(f"{opened.name}: {part.where}: got rows of a single number each; expected shape (n, 1)")
    if not mean_the_same(part.images.dtype, train.images.dtype):
        raise InputError(f"{opened.name}: got test rows of type {part.images.dtype} ({part.where}), expected {train.images.dtype} as in training: "
                         "their values do not mean the same; bring both to one type")


def _stored(array, classes=None):
    """The type a source array is stored in: native byte order, no truth values; class labels as int64."""
    if classes:
        return np.dtype(np.int64)
    return np.dtype(np.uint8) if array.dtype.kind == "b" else array.dtype.newbyteorder("=")


def _create(path, plan):
    """Lay out the file, so that it can be filled through memory maps."""
    arrays = {}
    for split, (origin, _) in plan.place.items():
        images, labels, rows = plan.parts[origin].images, plan.labels[origin], plan.rows(split)
        arrays[f"{split}/images"] = (rows, *images.shape[1:]), _stored(images)
        arrays[f"{split}/labels"] = (rows, *(() if plan.classes else labels.shape[1:])), _stored(labels, plan.classes)
        arrays[f"{split}/origin"] = (rows,), np.int64
    lay_out(path, arrays, {})


def _maps(path, name):
    """Writable memory maps of one split of the file that is being packed."""
    with open_hdf5(path) as file:
        return {part: np.memmap(path, data.dtype, "r+", data.id.get_offset(), data.shape) for part, data in file[name].items()}


def _fill(path, plan, opened):
    """Write every row to its place. Returns (Moments of the training images, split of the source -> {"images": Values, "labels": Values})."""
    maps = {split: _maps(path, split) for split in plan.place}
    moments, values = Moments(), {origin: {"images": Values(), "labels": Values()} for origin in plan.parts}
    with progress(sum(part.images.shape[0] for part in plan.parts.values()), f"pack {opened.name}") as advance:
        for origin, part in plan.parts.items():
            targets = [split for split, (source, _) in plan.place.items() if source == origin]
            for rows in _slices(part.images):
                number = np.arange(rows.start, rows.stop)
                x, y = np.asarray(part.images[rows]), np.asarray(plan.labels[origin][rows])
                kept = np.any([plan.place[split][1][rows] >= 0 for split in targets], axis=0)  # what is left out says nothing of the range
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
    """Write those of the source rows `number` that have a place in this split. Returns which ones they are, bool."""
    here = place >= 0
    for part, values in (("images", x), ("labels", y), ("origin", number)):
        maps[part][place[here]] = values[here]
    return here


def _slices(images):
    """Slices of about SLICE_BYTES that keep to the source's own chunks, so that each chunk is decoded once."""
    rows, chunk = images.shape[0], getattr(images, "chunk_rows", 1)
    row_bytes = max(1, int(np.prod(images.shape[1:])) * images.dtype.itemsize)
    step = max(chunk, SLICE_BYTES // row_bytes // chunk * chunk, 1)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


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


def _prove(path):
    """Open the file as training will, before it gets its name."""
    try:
        open_packed(path)
    except InputError as error:
        raise BrokenInvariant(f"pack: made a file that cannot be opened: {error}") from None
