"""The landscape of the loss around the weights, of all samples and of those that the filter kept: slices, a
barrier, and the numbers."""

from pathlib import Path

import numpy as np

from hpcfilter.study.report.charts import SCALE, Chart, View, axes, colour_bar, label, plain, short
from hpcfilter.study.report.form import TextTable, number

SETS = {"full": ("all samples", "var(--ink)", "solid"), "filtered": ("kept samples", "var(--kept)", "dash")}
WIDE = 20  # times from the smallest to the largest loss of a plane from which on its colours are logarithmic
LEVELS = 16  # of the contours


def lines(key, name, sets):
    """Charts of the 1-D slices, and of the straight line to other weights, of what there is.

    key: of the charts. sets: "full", "filtered" -> dict, of a Probe. Returns a list of Chart.
    """
    found = []
    for value in ("loss", "error"):
        cuts = {which: part["slice1d"] for which, part in sets.items() if value in part.get("slice1d", ())}
        data = [trace for which, cut in cuts.items() for trace in _bundle(which, cut["position"], cut[value])]
        if data:
            title = f"{value.capitalize()} along directions"
            found.append(Chart(f"{key}-{value}", title, f"{title} from the weights of {name}, "
                               "over all samples and over the kept ones.", [View("", data)],
                               layout=axes("distance from the weights", value, showlegend=True)))
    ways = {which: part["barrier"] for which, part in sets.items() if "loss" in part.get("barrier", ())}
    # this run is at alpha = 1
    data = [trace for which, way in ways.items()
            for trace in _bundle(which, 1 - np.asarray(way["alpha"]), [way["loss"]])]
    if data:
        other = next(iter(ways.values())).get("other", "the other weights")  # of one run for all sets
        found.append(Chart(f"{key}-barrier", "Loss on the way to other weights", "Loss on the straight line "
                           f"from the weights of {name} to those of {plain(other)}.", [View("", data)],
                           layout=axes(f"share of the way to {label(Path(other).name or other)}", "loss",
                                       showlegend=True),
                           note=f"0: the weights of {name}; 1: those of {plain(other)}."))
    return found


def planes(key, name, sets):
    """Charts of the 2-D slices, on one scale of colours. key: of the charts. sets: "full", "filtered" ->
    dict, of a Probe. Returns a list."""
    losses = {which: np.asarray(part["slice2d"]["loss"], float)
              for which, part in sets.items() if "loss" in part.get("slice2d", ())}
    known = np.concatenate([loss[np.isfinite(loss)] for loss in losses.values()] or [[]])
    if not len(known):
        return []
    low, high = known.min(), known.max()
    by_ratio = 0 < WIDE * low < high
    return [Chart(f"{key}-{which}", f"Loss on a plane, {SETS[which][0]}", f"Loss over {SETS[which][0]} of "
                  f"{name} on a plane of two directions; the cross is where the network stands.",
                  [View("", [_contours(sets[which]["slice2d"], loss, low, high, by_ratio), _cross()])],
                  tall=True, layout=axes("first direction", "second direction", yaxis={"scaleanchor": "x"},
                                         xaxis={"constrain": "domain"})) for which, loss in losses.items()]


def numbers(sets):
    """What was measured of each set. sets: "full", "filtered" -> dict, of a Probe. Returns TextTable, without
    rows of which nobody knows anything."""
    rows = [[words, *map(say, sets.values())] for words, say in MEASURED]
    return TextTable("", ["", *(SETS[which][0] for which in sets)],
                     [row for row in rows if set(row[1:]) != {"-"}])


def _bundle(which, x, values):
    """One line per direction, all of a set alike; the legend names the set once."""
    words, tint, dash = SETS[which]
    many = len(values) > 1
    return [{"type": "scatter", "mode": "lines", "x": short(x), "y": short(line),
             "name": words, "legendgroup": which, "showlegend": nth == 0, "opacity": 0.6 if many else 1,
             "line": {"color": tint, "dash": dash, "width": 1.5 if many else 2},
             "hovertemplate": f"{words}{f', direction {nth + 1}' if many else ''}<br>%{{x:.3~g}}: "
                              f"%{{y:.4~g}}<extra></extra>"} for nth, line in enumerate(values)]


def _contours(cut, loss, low, high, by_ratio):
    with np.errstate(divide="ignore", invalid="ignore"):
        height, ends = (np.log10(loss), np.log10([low, high])) if by_ratio else (loss, np.array([low, high]))
    ticks = np.linspace(*ends, 5)
    bar = colour_bar("loss", ticks, [number(float(10**tick if by_ratio else tick)) for tick in ticks])
    levels = {"start": float(ends[0]), "end": float(ends[1]), "size": float(np.ptp(ends)) / LEVELS or 1.0}
    return {"type": "contour", "x": short(cut["a"]), "y": short(cut["b"]),
            "z": [short(row, 4) for row in height.T], "colorscale": SCALE, "zmin": levels["start"],
            "zmax": levels["end"], "colorbar": bar, "contours": levels,
            "line": {"width": 0.5, "color": "rgba(255,255,255,0.5)"},
            "customdata": [short(row, 4) for row in loss.T],
            "hovertemplate": "%{x:.3~g}, %{y:.3~g}: loss %{customdata:.4~g}<extra></extra>"}


def _cross():
    return {"type": "scatter", "mode": "markers", "x": [0], "y": [0], "hoverinfo": "skip",
            "showlegend": False,
            "marker": {"symbol": "cross-thin", "size": 12, "line": {"width": 2, "color": "#ffffff"}}}


def _of(group, name, show=lambda value: number(float(np.mean(value))), error=None):
    """A function that says a number of a set, or "-". group: within the set, "" for none. show: value ->
    text. error: the name of its ±."""

    def say(part):
        measured = part.get(group, {}) if group else part
        if name not in measured:
            return "-"
        return show(measured[name]) + (f" ± {number(float(measured[error]), 2)}" if error in measured else "")

    return say


def _each(values):
    return ", ".join(number(float(value)) for value in np.atleast_1d(values)) or "-"


MEASURED = (
    ("loss", _of("", "loss")),
    ("largest eigenvalues of the Hessian", _of("", "eigenvalues", _each)),
    ("their residuals", _of("", "residuals", _each)),
    ("trace of the Hessian", _of("", "trace", error="trace_error")),
    ("sharpness", _of("", "sharpness")),
    ("within the radius ρ", _of("", "rho")),
    ("minima along each direction", _of("slice1d", "minima", _each)),
    ("roughness, mean of the directions", _of("slice1d", "roughness")),
    ("minima on the plane", _of("slice2d", "minima")),
    ("flat share of the plane", _of("slice2d", "flat_share", lambda value: f"{100 * float(value):.1f} %")),
    ("barrier on the way to other weights", _of("barrier", "barrier")),
)
