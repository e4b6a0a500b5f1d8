"""Rows that cannot be read, or hold values that cannot be trained on: all are named, and left out only as far
as the user allows it."""

import sys

from hpcfilter.base.errors import InputError
from hpcfilter.pack.names import listed

HEAD = "damaged rows, as --skip-damaged allows: "
RECORDED = 1000  # rows that are named in the file


def drop_damaged(parts, values, dropped, allowed, opened):
    """Add what is damaged to `dropped`, so that the next filling leaves it out.

    parts: split -> Part. values: split -> its Values, of images and labels. dropped: split ->
    {row: why}, changed in place. allowed: how many rows may be left out. opened: the Source, whose
    notes say what was left out.
    Returns whether there was something new. Raises InputError, after a line for each on the error output,
    when it is more than allowed.
    """
    new, lines = False, []
    for split, part in parts.items():
        files = {row: why for row, why in getattr(part.images, "damaged", {}).items()
                 if row not in dropped[split]}
        lines += [files[row] for row in sorted(files)]
        dropped[split].update(files)
        for name, found in values[split].items():
            wrong = {row: why for row, why in found.wrong.items() if row not in dropped[split]}
            if wrong:
                first, rows = (min(wrong),
                               listed((_named(part, row).removeprefix("row ") for row in sorted(wrong)), 20))
                lines.append(f"{part.where}: {len(wrong)} rows of the {name} cannot be trained on, "
                             f"row {rows}: {wrong[first]}{' in the first' * (len(wrong) > 1)}")
            dropped[split].update(wrong)
            new = new or bool(wrong)
        new = new or bool(files)
    count, total = sum(map(len, dropped.values())), sum(part.images.shape[0] for part in parts.values())
    if new and count > allowed:
        for line in lines if len(lines) > 1 else []:
            print(f"hpcfilter: {line}", file=sys.stderr)
        first = (lines[0] if len(lines) == 1
                 else f"{opened.name}: {count} of {total} rows cannot be trained on, as the lines above say")
        raise InputError(f"{first}; mend them, or give --skip-damaged {count} to leave them out")
    if new:
        names = [_named(parts[split], row) for split, rows in dropped.items() for row in sorted(rows)]
        opened.notes.left_out = ([note for note in opened.notes.left_out if HEAD not in note]
                                 + [f"{count} {HEAD}{listed(names, RECORDED)}"])
    return new


def _named(part, row):
    return part.images.named(row) if hasattr(part.images, "named") else f"row {row}"
