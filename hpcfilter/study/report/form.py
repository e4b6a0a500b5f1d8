"""A table, and the ways to write it. Cells are values; how they look is decided here."""

import csv
import io
from dataclasses import dataclass, field
from typing import NamedTuple


class Interval(NamedTuple):
    """A mean and half the width of its 95 % interval, None where there is but one value."""

    mean: float
    half: float | None

    def times(self, factor):
        """The Interval of as many times the values. factor: positive."""
        return Interval(self.mean * factor, None if self.half is None else self.half * factor)


class Share(float):
    """A share of 1, which people read in percent."""


@dataclass
class TextTable:
    """A title, the heads of the columns, rows as long, and notes below. A cell is text, a number, a
    Share, an Interval or None."""

    title: str
    head: list
    rows: list
    notes: list = field(default_factory=list)

    def text(self):
        """Aligned columns for a terminal, the first to the left."""
        lines = [self.head, *(list(map(word, row)) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        rows = ["  ".join(cell.rjust(width) if number else cell.ljust(width)
                          for number, (cell, width) in enumerate(zip(line, widths, strict=True)))
                for line in lines]
        return "\n".join([*([self.title] if self.title else []), *rows, *self.notes])

    def markdown(self):
        """A table of Markdown, with a heading."""
        lines = [self.head, ["---", *["--:"] * (len(self.head) - 1)],
                 *([_safe(word(cell)) for cell in row] for row in self.rows)]
        rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join([*([f"## {self.title}"] if self.title else []), rows, *map(_safe, self.notes)])

    def csv(self):
        """Comma-separated values as they are, head first; an interval takes two columns. The title has one,
        since files may hold several tables."""
        wide = [any(isinstance(row[column], Interval) for row in self.rows)
                for column in range(len(self.head))]
        head = [name for name, two in zip(self.head, wide, strict=True)
                for name in ([name, f"{name} ±"] if two else [name])]
        rows = [[value for cell, two in zip(row, wide, strict=True) for value in _plain(cell, two)]
                for row in self.rows]
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([["table", *head],
                                                        *([self.title, *row] for row in rows)])
        return out.getvalue().rstrip("\n")


def word(cell):
    """A cell as people read it."""
    if isinstance(cell, Interval):
        return number(cell.mean) if cell.half is None else f"{number(cell.mean)} ± {number(cell.half, 2)}"
    if isinstance(cell, Share):
        return f"{100 * cell:.2f} %"
    return cell if isinstance(cell, str) else number(cell)


def number(value, digits=3):
    """A number to so many significant digits, with separators and without exponents where that is
    readable; "-" for None."""
    if value is None:
        return "-"
    if value and not 1e-4 <= abs(value) < 1e12:
        return f"{value:.{digits - 1}e}"
    if abs(value) >= 10 ** (digits - 1) or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def _safe(text):
    """Text that cannot end a cell, nor become HTML: names of folders and data come from outside."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


def _plain(cell, two):
    if two:
        return list(cell) if isinstance(cell, Interval) else [cell, None]
    return [float(cell) if isinstance(cell, Share) else cell]
