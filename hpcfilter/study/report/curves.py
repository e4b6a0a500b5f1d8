"""The charts over epochs, all runs in each: accuracy, hidden share, threshold and the like; and where the
time goes, one chart per run."""

import numpy as np

from hpcfilter.study.report.charts import Chart, View, axes, colour, dash, hatched, label, short

MOST = 2000  # epochs of a run that are drawn
BARS = 80  # epochs up to which phases are bars and lines have points
PHASES = {"select": ("select", "rebalance"), "train": ("train",), "score": ("score",),
          "evaluate": ("evaluate",), "save": ("checkpoint",)}
WIDE = 20  # times from the smallest to the largest value from which on the axis is logarithmic
PATTERNS = "x", "", "/", ".", "\\"  # of the phases


def thinned(rows):
    """At most MOST rows, evenly spaced, the first and the last among them. Returns list."""
    return (rows if len(rows) <= MOST
            else [rows[number] for number in np.linspace(0, len(rows) - 1, MOST).round().astype(int)])


def curves(records, names):
    """Accuracy (or loss), that of the worst class, hidden share, threshold and noise scale by epoch, the
    first also by sample passes and by time.

    records: list of RunLog. names: as many texts. Returns a list of Chart, without those
    that no run has a value for.
    """
    columns = [_columns(record) for record in records]
    noises = [_noise(record) for record in records]

    def view(name, x, words, y, title, unit="", of=columns, **more):
        return View(name, [_line(run, names[run], mine, x, y, unit) for run, mine in enumerate(of)],
                    axes(words, title, **more))

    def known(y, of=columns):
        return [value for mine in of for value in mine[y] if value is not None]

    title, y, axis, unit = (("Test accuracy", "accuracy", "test accuracy, %", " %")
                            if all(mine["accuracy"] for mine in columns) else (
                                "Test loss", "loss", "test loss", ""))
    by = {"epoch": "epoch", "passes": "sample passes (forward and backward) / data set",
          "seconds": "seconds since the start"}
    found = [Chart("quality", title, f"{title} of each run, against the epoch, the sample passes or "
                   "the time.", [view(x, x, words, y, axis, unit) for x, words in by.items()], "buttons")]
    if known("worst"):
        found.append(Chart("worst", "Accuracy of the worst class", "Test accuracy of the class that each run "
                           "is worst at, by epoch.", [view("", "epoch", "epoch", "worst", "test accuracy, %",
                                                           " %", yaxis={"rangemode": "tozero"})]))
    found.append(
        Chart("hidden", "Hidden share", "Share of the training samples that each run hides, by epoch.",
              [view("", "epoch", "epoch", "hidden", "hidden, %", " %", yaxis={"rangemode": "tozero"})]))
    if values := known("threshold"):
        found.append(Chart("threshold", "Threshold",
                           "Importance up to which samples were candidates for hiding, by epoch.",
                           [view("", "epoch", "epoch", "threshold", "importance", yaxis=_scale(values))]))
    if values := known("noise", noises):
        found.append(Chart("noise",
                           "Gradient noise scale", "Gradient noise scale of each run, in samples, by epoch.",
                           [view("", "epoch", "epoch", "noise", "samples", of=noises, yaxis=_scale(values))]))
    return found


def phases(records, names):
    """Seconds of each epoch by phase, stacked, all runs on one scale. records: list of RunLog. names: as many
    texts. Returns a Chart for each run."""
    rows = [thinned(record.epochs) for record in records]
    top = max(sum(_seconds(row, phase) for phase in PHASES) for mine in rows for row in mine)
    layout = axes("epoch", "seconds", barmode="stack", bargap=0.15, showlegend=True,
                  yaxis={"range": [0, 1.05 * top or 1]})
    return [Chart(f"phases{run}", name, f"Seconds of each epoch of {name} by phase.",
                  [View("", [_phase(number, phase, mine) for number, phase in enumerate(PHASES)], layout)])
            for run, (name, mine) in enumerate(zip(names, rows, strict=True))]


def _scale(values):
    """The keys of an axis for values, which is logarithmic where they are far apart."""
    return {"type": "log", "exponentformat": "power"} if 0 < WIDE * min(values) < max(values) else {}


def _noise(record):
    """The epochs and noise scales of a run, of what has been measured of them: name -> list of numbers."""
    rows = thinned([row for row in record.rows if row["kind"] == "noise"])
    return {"epoch": [row["epoch"] + 1 for row in rows],
            "noise": short(row.get("noise_scale") for row in rows)}


def _columns(record):
    """What is drawn of a run: name -> list of numbers, one per epoch. The accuracies are none at all
    where one is missing."""
    rows = thinned(record.epochs)
    clock = dict(zip((row["epoch"] for row in record.epochs),
                     np.cumsum([row["seconds"]["total"] for row in record.epochs]), strict=True))
    right = [row["accuracy"] for row in rows]
    return {"epoch": [row["epoch"] + 1 for row in rows], "passes": short(row["passes"] for row in rows),
            "seconds": short(clock[row["epoch"]] for row in rows), "accuracy": [] if None in right
            else short(100 * share for share in right), "loss": short(row["test_loss"] for row in rows),
            "hidden": short(100 * row["hidden"] / record.run["samples"] for row in rows),
            "threshold": short(row.get("threshold") for row in rows), "worst":
            short(None if (worst := row.get("worst_class")) is None else 100 * worst for row in rows)}


def _line(run, name, columns, x, y, unit):
    """The trace of one run, which the page shows and hides by its number."""
    name = label(name).replace("%{", "% {")  # no variable of plotly
    return {"type": "scatter", "mode": "lines+markers" if len(columns[x]) <= BARS else "lines",
            "x": columns[x], "y": columns[y], "name": name, "meta": {"run": run},
            "line": {"color": colour(run), "dash": dash(run), "width": 2},
            "marker": {"size": 5, "color": colour(run)},
            "hovertemplate": f"%{{y:.5~g}}{unit}<extra>{name}</extra>"}


def _phase(number, phase, rows):
    tint = f"var(--p{number})"
    trace = {"name": phase, "x": [row["epoch"] + 1 for row in rows],
             "y": short(_seconds(row, phase) for row in rows),
             "hovertemplate": f"epoch %{{x}}: {phase} %{{y:.3~g}} s<extra></extra>"}
    if len(rows) <= BARS:
        return {**trace, "type": "bar", "marker": hatched(tint, PATTERNS[number])}
    return {**trace, "type": "scatter", "mode": "lines", "stackgroup": "phases",
            "line": {"width": 0.5, "color": tint}}


def _seconds(row, phase):
    return sum(row["seconds"].get(part, 0.0) for part in PHASES[phase])
