"""What `pack` has found, as a dict for the file and as a table for a person."""

import re

import numpy as np

from hpcfilter.pack.targets import say_empty
from hpcfilter.pack.values import EXACT


def plain_text(name):
    """A name as text that JSON and a terminal can show: bytes that are not UTF-8 are written as \\xNN."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def describe(opened, parts, plan, values, options):
    """What was found. Returns a dict of plain values: splits, images, labels, left_out, said."""
    counts = _counts(plan) if plan.classes else None
    if plan.classes:
        say_empty(plan.classes, counts, opened.notes)
    images = _range([found["images"] for found in values.values()])
    array = parts["train"].images
    if array.dtype.kind in "ui" and max(abs(images["lowest"]), abs(images["highest"])) > EXACT:
        opened.notes.said.append(f"images: whole numbers up to {images['highest']}; training is in float32, "
                                 f"which has them exactly up to {EXACT}")
    for part in parts.values():
        opened.notes.said += getattr(part.images, "notes", list)()
    return {"splits": {split: _origin(parts, plan, split, options) for split in plan.place},
            "images": {"type": str(array.dtype.newbyteorder("=")), "shape": list(array.shape[1:]), **images,
                       "layout": plan.layout or "none"}, "labels": _labels(plan, counts, values),
            "left_out": [plain_text(note) for note in opened.notes.left_out],
            "said": [plain_text(note) for note in opened.notes.said]}


def _origin(parts, plan, split, options):
    """Where the rows of a split of the file come from, in words."""
    origin, place = plan.place[split]
    where = plain_text(parts[origin].where)
    if "test" in parts:
        return where
    how = "of each class" if plan.classes and options.by_class else "at random"
    share = int(np.count_nonzero(place >= 0)) / len(place)
    return f"{where}: {100 * share:.3g} % {how}"


def _range(found):
    lowest, highest = ([one.lowest for one in found if one.lowest is not None],
                       [one.highest for one in found if one.highest is not None])
    return {"lowest": min(lowest, default=0), "highest": max(highest, default=0),
            "not_finite": max(one.share_not_finite for one in found)}


def _counts(plan):
    """Rows of each class in each split of the file: split -> int64 (classes,)."""
    return {split: np.bincount(np.asarray(plan.labels[origin])[place >= 0], minlength=len(plan.classes))
            for split, (origin, place) in plan.place.items()}


def _labels(plan, counts, values):
    if counts is None:
        label = plan.labels["train"]
        return {"classes": 0, "type": str(label.dtype.newbyteorder("=")), "shape": list(label.shape[1:]),
                **_range([found["labels"] for found in values.values()])}
    total, trained = sum(counts.values()), counts["train"]
    there = np.flatnonzero(total)
    least, most = there[total[there].argmin()], there[total[there].argmax()]
    return {"classes": len(plan.classes), "empty": int(np.count_nonzero(total == 0)),
            "without_training_rows": int(np.count_nonzero(trained == 0)),
            "smallest": [plain_text(plan.classes[least]), int(total[least])],
            "largest": [plain_text(plan.classes[most]), int(total[most])]}


def table(about):
    """What was found as lines for a person."""
    found, lines = about["found"], []
    for split, where in found["splits"].items():
        lines.append((split, f"{about['rows'][split]:,} rows, from {where}"))
    images, labels = found["images"], found["labels"]
    lines.append(("images",
                  f"{images['type']} {_shape(images['shape'])}, {_span(images)}, layout {images['layout']}"))
    if labels["classes"]:
        (least, few), (most, many) = labels["smallest"], labels["largest"]
        rows = f"of {few:,} rows each" if few == many else f"{few:,} rows ('{least}') to {many:,} ('{most}')"
        lines.append(("labels", f"{labels['classes']} classes, {rows}; {labels['empty'] or 'none'} empty"))
    else:
        lines.append(("labels", "none" if about.get("targets") == "none"
                      else f"{labels['type']} {_shape(labels['shape'])}, {_span(labels)}"))
    lines += [("left out", note) for note in found["left_out"]] or [("left out", "nothing")]
    lines += [("note", note) for note in found["said"]]
    return "\n".join(f"  {head:9} {text}" for head, text in lines)


def _shape(shape):
    return f"({', '.join(map(str, shape))})" if shape else "(one number)"


def _span(found):
    return f"{found['lowest']:.6g} to {found['highest']:.6g}, {100 * found['not_finite']:.3g} % not finite"


def warnings_of(about):
    """What a person should look at: what was left out beside hidden files and documents, and what was
    guessed, changed or is odd. Yields str."""
    for note in about["found"]["left_out"]:
        if not re.match(r"[0-9]+ (hidden or system files|documents)", note):
            yield f"left out: {note}"
    yield from about["found"]["said"]

