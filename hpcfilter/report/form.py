"""A table of words, and the ways to write it."""

import csv
import io
from dataclasses import dataclass, field


@dataclass
class Table:
    """A title, the heads of the columns, rows of text as long, and notes below."""

    title: str
    head: list
    rows: list
    notes: list = field(default_factory=list)

    def text(self):
        """Aligned columns for a terminal, the first to the left."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        rows = ["  ".join(cell.rjust(width) if number else cell.ljust(width) for number, (cell, width) in enumerate(zip(line, widths, strict=True)))
                for line in lines]
        return "\n".join([*([self.title] if self.title else []), *rows, *self.notes])

    def markdown(self):
        """A table of Markdown, with a heading."""
        lines = [self.head, ["---", *["--:"] * (len(self.head) - 1)], *([_cell(cell) for cell in row] for row in self.rows)]
        rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join([*([f"## {self.title}"] if self.title else []), rows, *map(_cell, self.notes)])

    def csv(self):
        """Comma-separated values, head first; the title in a column of its own, so that several tables can stand in one file."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows([["table", *self.head], *([self.title, *row] for row in self.rows)])
        return out.getvalue().rstrip("\n")


def _cell(text):
    """Text that cannot end a cell, nor become HTML: names of folders and data come from outside."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


def number(value, digits=3):
    """A number to so many significant digits, with separators and without exponents where that is readable; "-" for None."""
    if value is None:
        return "-"
    if value and not 1e-4 <= abs(value) < 1e12:
        return f"{value:.{digits - 1}e}"
    if abs(value) >= 10 ** (digits - 1) or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if abs(value) >= 1e-4 else "0"


def plus_minus(mean, sigma, digits=3):
    """A mean and 1.96 standard deviations, as "12.3 ± 0.4"; the mean alone when there is nothing to deviate."""
    return number(mean, digits) if sigma is None else f"{number(mean, digits)} ± {number(1.96 * sigma, 2)}"
