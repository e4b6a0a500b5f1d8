"""`hpcfilter pack`: any source becomes one packed file, shuffled once.

Each source row is read once, in the source's own order, and written to its place in the shuffled file
through a memory map, so that no more rows than those of one slice are in memory, whatever the size. The
shuffle is what makes contiguous blocks of the file fair shares of the data. When reading shows that the
rows are not what they were taken for (other kinds of images, damaged ones that are to be left out), the
file is filled once more.
"""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from hpcfilter.base.errors import InputError
from hpcfilter.base.paths import check_output
from hpcfilter.data.distrust import allowing, damage
from hpcfilter.data.packed import is_packed
from hpcfilter.data.seal import seal
from hpcfilter.pack.damaged import drop_damaged
from hpcfilter.pack.fill import create, fill, prove, write_description
from hpcfilter.pack.found import describe, plain_text
from hpcfilter.pack.images import ImageFiles
from hpcfilter.pack.places import places_of
from hpcfilter.pack.sources import Reading, open_source, paths_of
from hpcfilter.pack.values import say_precision


@dataclass(frozen=True)
class Options:
    """How the rows are dealt and the labels taken; see `pack`."""

    seed: int
    test_fraction: float
    by_class: bool
    kind: str | None
    renumber: bool
    layout: str | None


def pack(source, target, seed=0, test_fraction=None, size=None, regression=False, layout=None, replace=False,
         *, kind=None, renumber=False, by_class=None, test_split=None, images=None, labels=None,
         first_frame=False, skip_damaged=0, allow_compression=None):
    """Pack a source. Returns the file's own description (dict: name, classes, layout, mean,
    std, rows, found, ...).

    source: path, pattern or list of paths; see pack/sources.py. target: path of the .h5 file. seed: of the
    shuffle. test_fraction: share split off when the source has no test rows (default 0.2); by_class: from
    each class alike (default). test_split: "test" or "val", the rows to test with where the source has both;
    default test. size: (height, width) for image files. regression: keep integer targets as numbers; or
    kind: "classes", "numbers" or "one-hot". renumber: number the classes anew. layout: "HW", "HWC" or ""
    (default: guessed where it is certain). images, labels: names of arrays or columns that are not the usual
    ones. first_frame: take the first picture of files that hold several. skip_damaged: most rows that may be
    left out since they are damaged or not finite. allow_compression: how many times its stored bytes a file
    may become. replace: overwrite the target. Raises InputError for a source that cannot be packed; the
    target is written under a temporary name and renamed, or not there at all.
    """
    _check_target(target, source, replace)
    target = Path(target)
    temporary = target.with_name(f"{target.name}.part{os.getpid()}")
    try:
        with allowing(allow_compression), damage(f"{_named(source)} to {target}"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on images that it reads all the same
            opened = open_source(source, Reading(size, images, labels, first_frame))
            parts = _chosen(opened, test_split)
            _refuse_idle(opened, parts, {"--size": size, "--first-frame": first_frame},
                         {"--test-fraction": test_fraction, "--split": by_class})
            options = Options(seed, 0.2 if test_fraction is None else test_fraction, by_class is not False,
                              "numbers" if regression else kind or opened.kind, renumber, layout)
            about = _pack(opened, parts, temporary, options, skip_damaged, source)
            seal(temporary)
        prove(temporary)
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
    inside = [folder
              for folder in sources if folder.is_dir() and folder.resolve() in target.resolve().parents]
    if target.exists() and inside and not is_packed(target):
        raise InputError(f"{target}: the output would overwrite what lies in its source {inside[0]}; "
                         "give another --output")


def _chosen(opened, test_split):
    """The splits that are packed: "train", and "test" where the source has rows to test with."""
    parts, notes = opened.parts, opened.notes
    others = [split for split in ("test", "val") if split in parts]
    if test_split and test_split not in others:
        raise InputError(f"{opened.name}: --test-split: got {test_split}, but the source has "
                         f"{' and '.join(parts)}")
    chosen = test_split or (others[0] if others else None)
    for split in others:
        if split != chosen:
            notes.left_out.append(f"the {parts[split].images.shape[0]} rows of the split {split} "
                                  f"({parts[split].where}); a packed file has one split to test with, "
                                  f"here {chosen}: --test-split {split} takes the other")
    return {"train": parts["train"], **({"test": parts[chosen]} if chosen else {})}


def _refuse_idle(opened, parts, of_images, of_split):
    """Raise InputError for options that would come to nothing. of_images, of_split: option -> its value."""
    arrays = not any(isinstance(part.images, ImageFiles) for part in parts.values())
    for option, value in of_images.items():
        if value and arrays:
            raise InputError(f"{option}: is for image files, and {opened.name} holds arrays; leave it out")
    for option, value in of_split.items():
        if value is not None and "test" in parts:
            raise InputError(f"{option}: is for a source without test rows, and {opened.name} has some "
                             f"({parts['test'].where}); leave it out")


def _pack(opened, parts, path, options, skip_damaged, source):
    """Fill the file, again when reading has shown that it must be planned anew. Returns its description."""
    dropped, said = {split: {} for split in parts}, list(opened.notes.said)
    while True:
        opened.notes.said = list(said)
        plan = places_of(opened, parts, dropped, options)
        create(path, plan)
        moments, values = fill(path, plan, opened)
        wrong = drop_damaged(parts, values, dropped, skip_damaged, opened)
        if not wrong and not any([part.images.settle()
                                  for part in parts.values() if hasattr(part.images, "settle")]):
            break
    mean, std = moments.mean_std(each=plan.layout == "HWC" or len(parts["train"].images.shape) == 2)
    rows = {split: plan.rows(split) for split in plan.place}
    say_precision(moments, values["train"]["labels"], opened.notes)
    about = {"name": plain_text(opened.name), "classes": [plain_text(name) for name in plan.classes],
             "layout": plan.layout, "mean": mean, "std": std, "seed": options.seed,
             "source": plain_text(_named(source)), "rows": rows, **({"targets": "none"} if plan.none else {}),
             "found": describe(opened, parts, plan, values, options)}
    write_description(path, about)
    return about


def _named(source):
    """The name of a path or pattern, or how many there are."""
    return Path(source).name if isinstance(source, str | Path) else f"{len(source)} paths"
