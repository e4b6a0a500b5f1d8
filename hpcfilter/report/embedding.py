"""A 2-D map of the samples' embedding, coloured by score, by class, or by what the selection kept. Hidden samples are rings in all three."""

import numpy as np

from hpcfilter.report.charts import COLOURS, SCALE, SYMBOLS, Chart, View, class_name, colour, colour_bar, label, short, worth
from hpcfilter.report.form import number

MANY = 16  # classes up to which the legend names them
LOOKS = COLOURS * len(SYMBOLS)  # that a class can have; where there are more classes, they come again
CROWD = 1000  # points from which on they are drawn smaller
QUANTILES = 0.0, 0.25, 0.5, 0.75, 1.0
BLANK = {"showgrid": False, "showticklabels": False, "showline": False}


def embedding(key, name, samples):
    """The Chart of a run's samples. key: of the chart. samples: of a Probe."""
    x, y = (short(column, 4) for column in samples["xy"].T)
    ways = {"score": _by_score, **({"class": _by_class} if samples["classes"] else {}), "kept": _by_kept}
    views = [View(name, traces(samples)) for name, traces in ways.items()]
    layout = {"xaxis": BLANK, "yaxis": {**BLANK, "scaleanchor": "x"}, "showlegend": True, "legend": {"itemsizing": "constant"}}
    classes = len(np.unique(samples["label"])) if samples["classes"] else 0
    note = f"{classes:,} classes: colours and shapes come again." if classes > LOOKS else ""
    size = 4.5 if len(x) > CROWD else 6
    for trace in (trace for view in views for trace in view.data):
        trace["marker"]["size"] = size
    return Chart(key, "Map of the embedding", f"The samples of {name} in two dimensions, by what the network makes of them.", views, "buttons",
                 layout=layout, columns={"x": x, "y": y, "text": _words(samples)}, tall=True, note=note)


def _words(samples):
    """What is said of each sample under the pointer."""
    lines = []
    for index, importance, kept, *of in zip(*(samples[name] for name in ("index", "importance", "kept", "label", "prediction")), strict=True):
        words = [f"sample {index:,}", f"importance {worth(importance)}", "kept" if kept else "hidden"]
        if samples["classes"]:
            truth, guess = (label(class_name(samples, value)) for value in of)
            words.insert(1, f"label {truth}" + ("" if of[0] == of[1] else f", <b>predicted {guess}</b>"))
        lines.append("<br>".join(words))
    return lines


def _by_score(samples):
    """By the rank of the importance among what is drawn: scores have long tails, beside which all else would be of one colour."""
    importance = np.asarray(samples["importance"], float)
    rank = np.argsort(np.argsort(importance, kind="stable"), kind="stable") / max(1, len(importance) - 1)
    known = importance[np.isfinite(importance)]
    words = [number(float(value)) for value in np.quantile(known, QUANTILES)] if len(known) else [""] * len(QUANTILES)
    bar = colour_bar("importance, coloured by rank", QUANTILES, words, orientation="h", len=0.9, x=0.5, y=-0.02, yanchor="top")
    traces = [_points(mask, name, {"color": short(rank[mask], 3), "colorscale": SCALE, "cmin": 0, "cmax": 1, "symbol": symbol})
              for name, mask, symbol in _split(samples)]
    traces[0]["marker"]["colorbar"] = bar
    return traces


def _by_class(samples):
    classes, traces = np.unique(samples["label"]), []
    for look in range(min(len(classes), LOOKS)):
        for nth, (_, mask, ring) in enumerate(_split(samples, np.isin(samples["label"], classes[look::LOOKS]))):
            marker = {"color": colour(look), "symbol": ring.replace("circle", SYMBOLS[look // COLOURS])}
            points = _points(mask, label(class_name(samples, classes[look])), marker)
            traces.append({**points, "legendgroup": str(look), "showlegend": nth == 0 and len(classes) <= MANY})
    return traces


def _by_kept(samples):
    return [_points(mask, f"{name}, {np.count_nonzero(mask):,}", {"color": f"var(--{name})", "symbol": symbol})
            for name, mask, symbol in _split(samples)]


def _split(samples, among=True):
    """(name, mask, symbol) of the kept and of the hidden samples, without those of which there are none."""
    kept = np.asarray(samples["kept"], bool)
    found = [("kept", kept & among, "circle"), ("hidden", ~kept & among, "circle-open")]
    return [entry for entry in found if entry[1].any()]


def _points(mask, name, marker):
    edge = {"width": 1.2 if marker["symbol"].endswith("open") else 0}
    return {"type": "scatter", "mode": "markers", "name": name, "rows": np.flatnonzero(mask).tolist(), "hovertemplate": "%{text}<extra></extra>",
            "marker": {"opacity": 0.85, "line": edge, **marker}}
