"""Histograms of the importance of all samples at the time of a selection, with what was hidden and the
threshold, epoch by epoch."""

import numpy as np

from hpcfilter.select.histogram import FINE
from hpcfilter.study.report.charts import Chart, View, axes, hatched, short
from hpcfilter.study.report.form import number

MOST = 60  # epochs of a run that can be chosen
TICKS = 7  # at most, or every second one


def histogram(key, name, rows):
    """A Chart with one view per epoch, or None where no selection knew a score. key: of the chart.
    rows: of kind "scores"."""
    known = [row for row in rows if sum(row["counts"])]
    if not known:
        return None
    note = f"{MOST} of {len(known):,} epochs, evenly spaced." if len(known) > MOST else ""
    if note:
        known = [known[at] for at in np.linspace(0, len(known) - 1, MOST).round().astype(int)]
    low, high = (_place(end(value for row in known for value in row["edges"])) for end in (min, max))
    ticks = _ticks(low, high)
    axis = {"range": [low, high], "tickvals": short(map(_place, ticks)),
            "ticktext": [f"{tick:.3g}" for tick in ticks], "showgrid": False}
    layout = axes("importance (higher = more worth training)", "samples", barmode="stack",
                  showlegend=True, xaxis=axis)
    return Chart(key, "Scores", f"How many samples of {name} have which importance, and how many of them "
                 "were hidden, epoch by epoch.", [_view(row, (low + high) / 2) for row in known], "slider",
                 len(known) - 1, layout, note=note)


def _place(value):
    """Where an importance stands on the axis, on which the bins are even."""
    return float(np.arcsinh(value / FINE))


def _ticks(low, high):
    """Importances to stand below the axis: powers of ten, or where there are too few of them, what
    stands at even distances."""
    decades = [0.0, *(sign * 10.0**power for power in range(round(np.log10(FINE)), 13) for sign in (1, -1))]
    found = sorted(value for value in decades if low <= _place(value) <= high)
    if len(found) < 3:
        return [float(np.sinh(at) * FINE) for at in np.linspace(low, high, 5)]
    return found if len(found) <= TICKS else found[::2]


def _view(row, middle):
    counts, hidden = (np.asarray(row[name], int) for name in ("counts", "hidden"))
    edges = np.array([_place(edge) for edge in row["edges"]])
    ranges = [f"{number(low)} … {number(high)}"
              for low, high in zip(row["edges"][:-1], row["edges"][1:], strict=True)]
    shared = {"type": "bar", "x": short((edges[1:] + edges[:-1]) / 2), "width": short(0.94 * np.diff(edges)),
              "text": ranges, "textposition": "none"}
    data = [{**shared, "name": name, "y": values.tolist(), "marker": hatched(f"var(--{name})", pattern),
             "hovertemplate": f"%{{text}}<br>%{{y:,}} {name}<extra></extra>"}
            for name, values, pattern in (("hidden", hidden, "/"), ("kept", counts - hidden, ""))]
    return View(f"epoch {row['epoch'] + 1}", data, _marks(row, middle))


def _marks(row, middle):
    """The threshold as a line with its value, to the side where there is room, and how many
    samples have no score yet."""
    lines, words = [], []
    said = {"yref": "paper", "yanchor": "top", "showarrow": False, "bgcolor": "var(--paper)"}
    if row["threshold"] is not None:
        at, side = _place(row["threshold"]), {"xanchor": "left", "xshift": 4}
        look = {"color": "var(--ink)", "width": 1.5, "dash": "dot"}
        lines.append({"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": look})
        words.append({**said, "x": at, "y": 1, "text": f"threshold {number(float(row['threshold']))}",
                      **(side if at < middle else {"xanchor": "right", "xshift": -4})})
    if row["unknown"]:
        words.append({**said, "xref": "paper", "x": 1, "xanchor": "right", "y": 0.9,
                      "text": f"and {row['unknown']:,} not observed yet"})
    return {"shapes": lines, "annotations": words}
