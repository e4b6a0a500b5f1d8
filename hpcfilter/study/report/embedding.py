"""A 2-D map of the samples' embedding, coloured by score, by class, or by what the selection kept. Hidden
samples are rings in all three."""

import numpy as np

from hpcfilter.study.report.answers import answers, class_name, worth
from hpcfilter.study.report.charts import (
    COLOURS,
    SCALE,
    SYMBOLS,
    Chart,
    View,
    colour,
    colour_bar,
    label,
    short,
)
from hpcfilter.study.report.form import number

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
    layout = {"xaxis": BLANK, "yaxis": {**BLANK, "scaleanchor": "x"}, "showlegend": True,
              "legend": {"itemsizing": "constant"}}
    classes = len(np.unique(samples["label"])) if samples["classes"] else 0
    note = " ".join([_drawn(samples),
                     *([f"{classes:,} classes: colours and shapes come again."] if classes > LOOKS else [])])
    size = 4.5 if len(x) > CROWD else 6
    for trace in (trace for view in views for trace in view.data):
        trace["marker"]["size"] = size
    return Chart(key, "Map of the embedding", f"The samples of {name} in two dimensions, by what the network "
                 "makes of them.", views, "buttons", layout=layout,
                 columns={"x": x, "y": y, "text": _words(samples)}, tall=True, note=note)


def _drawn(samples):
    """Which samples the map shows."""
    shown, total = len(samples["index"]), samples["total"]
    if shown == total:
        return f"The map shows all {total:,} samples."
    if "drawn" not in samples:  # an older probe
        some, rest = "some", "those"
    elif (drawn := np.count_nonzero(samples["drawn"])) < shown:
        some, rest = f"{drawn:,}", f"the {shown - drawn:,}"
    else:
        return f"The map shows {shown:,} of {total:,} samples, drawn by hash."
    return (f"The map shows {shown:,} of {total:,} samples: {some} drawn by hash, and {rest} at the ends and "
            "around the threshold.")


def _words(samples):
    """What is said of each sample under the pointer."""
    lines = []
    for index, importance, kept, truth, guess in zip(*(samples[name]
                                                       for name in ("index", "importance", "kept")),
                                                     *answers(samples), strict=True):
        words = [f"sample {index:,}", f"importance {worth(importance)}", "kept" if kept else "hidden"]
        if samples["classes"]:
            words.insert(1, f"label {label(truth)}"
                         + ("" if truth == guess else f", <b>predicted {label(guess)}</b>"))
        elif truth:
            words.insert(1, f"target {truth}" + (f", predicted {guess}" if guess else ""))
        lines.append("<br>".join(words))
    return lines


def _by_score(samples):
    """By the rank of the importance among what is drawn: scores have long tails, beside which all else
    would be of one colour."""
    importance = np.asarray(samples["importance"], float)
    known = np.isfinite(importance)
    rank = np.argsort(np.argsort(importance[known], kind="stable"),
                      kind="stable") / max(1, np.count_nonzero(known) - 1)
    place = dict(zip(np.flatnonzero(known).tolist(), short(rank, 3), strict=True))
    scale = {"colorscale": SCALE, "cmin": 0, "cmax": 1}
    traces = [_points(mask, name, {"color": [place[row] for row in np.flatnonzero(mask)], **scale,
                                   "symbol": symbol}) for name, mask, symbol in _split(samples, known)]
    if traces:
        words = [number(float(value)) for value in np.quantile(importance[known], QUANTILES)]
        traces[0]["marker"]["colorbar"] = colour_bar("importance, coloured by rank", QUANTILES, words,
                                                     orientation="h", len=0.9, x=0.5, y=-0.02, yanchor="top")
    return traces + [_points(mask, "not known" if name == "kept" else f"not known, {name}",
                             {"color": "var(--muted)", "symbol": symbol})
                     for name, mask, symbol in _split(samples, ~known)]


def _by_class(samples):
    classes, traces = np.unique(samples["label"]), []
    for look in range(min(len(classes), LOOKS)):
        for nth, (_, mask, ring) in enumerate(_split(samples,
                                                     np.isin(samples["label"], classes[look::LOOKS]))):
            marker = {"color": colour(look), "symbol": ring.replace("circle", SYMBOLS[look // COLOURS])}
            points = _points(mask, label(class_name(samples, classes[look])), marker)
            traces.append({**points, "legendgroup": str(look),
                           "showlegend": nth == 0 and len(classes) <= MANY})
    return traces


def _by_kept(samples):
    return [_points(mask, f"{name}, {np.count_nonzero(mask):,}",
                    {"color": f"var(--{name})", "symbol": symbol}) for name, mask, symbol in _split(samples)]


def _split(samples, among=True):
    """(name, mask, symbol) of the kept and of the hidden samples, without those of which there are none."""
    kept = np.asarray(samples["kept"], bool)
    found = [("kept", kept & among, "circle"), ("hidden", ~kept & among, "circle-open")]
    return [entry for entry in found if entry[1].any()]


def _points(mask, name, marker):
    edge = {"width": 1.2 if marker["symbol"].endswith("open") else 0}
    return {"type": "scatter", "mode": "markers", "name": name, "rows": np.flatnonzero(mask).tolist(),
            "hovertemplate": "%{text}<extra></extra>", "marker": {"opacity": 0.85, "line": edge, **marker}}
