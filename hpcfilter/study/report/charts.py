"""A chart of the page, as data for plotly.js: traces and a layout as plain dictionaries, and
what may be switched.

A colour is a name of the page's style sheet, "var(--ink)", so that the page decides what it
is by day and by night.
"""

import html
import math
from dataclasses import dataclass, field

LONGEST = 60  # characters of a name that came from outside
DASHES = "solid", "dash", "dot", "dashdot", "longdash", "longdashdot"
SYMBOLS = "circle", "square", "diamond", "triangle-up", "x", "star", "hexagon", "cross"
COLOURS = 8  # of the style sheet: --c0 ... --c7
# viridis without the end that would be lost on the page
SCALE = [[step / 4, f"var(--s{step})"] for step in range(5)]


@dataclass
class View:
    """One state of a chart: plotly's traces, and what its layout has beside that of the chart."""

    name: str
    data: list
    layout: dict = field(default_factory=dict)


@dataclass
class Chart:
    """A chart: its id in the page, what stands above it, what it shows in words, its views and how
    one of them is chosen."""

    key: str
    title: str
    about: str
    views: list  # of View
    control: str = ""  # "buttons" or "slider"
    shown: int = 0  # which view comes first
    layout: dict = field(default_factory=dict)
    # name -> list, of which a trace with "rows" takes those rows: what all views show stands here once
    columns: dict = field(default_factory=dict)
    tall: bool = False
    note: str = ""  # below the chart

    def spec(self):
        """What the page's script needs, as JSON knows it. Returns dict."""
        return {"shown": self.shown, "layout": self.layout, "columns": self.columns,
                "views": [vars(view) for view in self.views]}


def printable(text):
    """A text that came from outside without what cannot be written or seen: line ends, controls,
    halves of characters."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))


def plain(text):
    """A name that came from outside as one printable line of at most LONGEST characters."""
    line = printable(text)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def label(text):
    """The same for plotly, which takes tags in its texts for markup."""
    return html.escape(plain(text), quote=False)


def short(values, digits=5):
    """Numbers as JSON knows them, to so many significant digits; what is not finite becomes None.
    values: iterable. Returns list."""
    return [float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None
            for value in values]


def colour(number):
    """The colour of run, class or direction `number`."""
    return f"var(--c{number % COLOURS})"


def dash(number):
    """The dash of a line, which differs where colours come again, and for those who see none."""
    return DASHES[number % len(DASHES)]


def hatched(tint, shape):
    """The marker of bars: a colour, and a pattern for those who see none. shape: one of plotly's patterns, ""
    for none. Returns dict."""
    pattern = {"shape": shape, "fillmode": "overlay", "fgcolor": "var(--paper)", "size": 6, "solidity": 0.2}
    return {"color": tint, "line": {"width": 0}, "pattern": pattern}


def colour_bar(title, values, words, **more):
    """The key of a scale of colours. values, words: where a word stands. more: further keys of plotly's
    colorbar. Returns dict."""
    font = {"color": "var(--muted)"}
    return {"title": {"text": title, "side": "top", "font": {**font, "size": 12}}, "tickfont": font,
            "tickvals": short(values), "ticktext": words, "thickness": 10, "outlinewidth": 0, **more}


def axes(x, y, **more):
    """A layout with titles on both axes. more: further keys of the layout; those of xaxis and yaxis are
    merged. Returns dict."""
    return {**more, "xaxis": {"title": {"text": x}, **more.get("xaxis", {})},
            "yaxis": {"title": {"text": y}, **more.get("yaxis", {})}}
