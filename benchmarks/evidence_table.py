"""The tables of the evidence: every arm beside all data, a shortened schedule and random choice at the same
compute, seed by seed."""

import numpy as np

from hpcfilter.study.report.form import Share, TextTable, number
from hpcfilter.study.report.statistics import interval

HEAD = ["arm", "seeds", "accuracy", "to all data", "to random", "to short", "worst class", "passes",
        "compute", "seconds", "core s"]
SHAPE = ["loss", "eigenvalue", "trace", "sharpness", "minima", "roughness"]
NOTE = ("Accuracy in percent, mean and 95 % interval over seeds (Student's t); differences in points, paired "
        "by seed: to all data in the full schedule; to random choice and to all data in a shortened schedule "
        "at the compute of the arm, on the line between their measured fractions and all data (such lines "
        "lie a little below the curves). Compute: training passes and a third of the forward-only ones.")
SHAPE_NOTE = ("Loss, largest eigenvalue and trace of its Hessian, SAM sharpness, minima and roughness of "
              "slices, over a sample of the full training set and, behind the stroke, of what the filter "
              "kept; means over the probed seeds.")


def evidence_tables(results):
    """One TextTable per data set and batch size, and one of the landscape where arms were probed.
    results: lines of the case `evidence`, of one plan."""
    groups, tables = {}, []
    for row in results:
        groups.setdefault((row["parameters"]["data"], row["parameters"]["batch"]), []).append(row)
    for (data, batch), rows in groups.items():
        tables.append(TextTable(f"{data}, batch {batch}", HEAD, [_row(row, rows) for row in rows], [NOTE]))
        if any(row["landscape"] for row in rows):
            lines = [_shape(row) for row in rows if row["landscape"]]
            tables.append(TextTable(f"{data}, batch {batch}: the landscape", ["arm", "seeds", *SHAPE], lines,
                                    [SHAPE_NOTE]))
    return tables


def _row(row, rows):
    about = row["parameters"]
    seeds = f"{len(row['seeds'])}" + (f", {row['failed']} failed" if row["failed"] else "")
    if row["failed"] or not row["seeds"]:
        # a mean of those that did not diverge would flatter
        return [about["arm"], seeds, *["-"] * (len(HEAD) - 2)]
    full = next((dict(zip(other["seeds"], other["accuracy"], strict=True))
                 for other in rows if other["parameters"]["role"] == "full"), {})
    return [about["arm"], seeds, points(interval([100 * value for value in row["accuracy"]]), signed=False),
            "" if about["role"] == "full" else points(against(row, full)),
            *("" if about["role"] in ("full", role)
              else points(against(row, at_equal_compute(row, rows, role))) for role in ("random", "short")),
            f"{100 * np.mean(row['worst_class']):.1f}",
            Share(np.mean(row["passes"])), Share(np.mean(row["compute"])), f"{np.mean(row['seconds']):.1f}",
            f"{np.mean(row['core_seconds']):.1f}"]


def _shape(row):
    hides = row["parameters"]["settings"]["filter"] != {"policy": "none"}
    sets = [row["landscape"].get(name, {}) for name in ("full", "filtered")[: 1 + hides]]
    seeds = max(len(values) for values in row["landscape"]["full"].values())
    means = ([number(float(np.mean(part[key])) if key in part else None) for part in sets] for key in SHAPE)
    return [row["parameters"]["arm"], seeds, *map(" / ".join, means)]


def against(row, others):
    """The Interval of the differences in points to others, seed -> accuracy; None without common seeds."""
    pairs = [100 * (mine - others[seed]) for seed, mine in zip(row["seeds"], row["accuracy"], strict=True)
             if seed in others]
    return interval(pairs) if pairs else None


def at_equal_compute(row, rows, role="random"):
    """Accuracy of the arms of a role at the compute of `row`, by linear interpolation between them and
    all data. Returns seed -> accuracy, only of seeds that all of these arms have; empty when the compute
    lies outside of theirs."""
    line = sorted((other for other in rows if other["parameters"]["role"] in (role, "full")
                   and other["seeds"]), key=lambda other: np.mean(other["compute"]))
    at = [float(np.mean(other["compute"])) for other in line]
    wanted = float(np.mean(row["compute"]))
    if len(line) < 2 or not at[0] - 0.02 <= wanted <= at[-1] + 0.02:
        return {}
    seeds = set.intersection(*(set(other["seeds"]) for other in line))
    return {seed:
            float(np.interp(wanted, at, [other["accuracy"][other["seeds"].index(seed)] for other in line]))
            for seed in seeds}


def points(value, signed=True):
    """An Interval of percents or points as people read it."""
    if value is None:
        return "-"
    mean = f"{value.mean:+.2f}" if signed else f"{value.mean:.2f}"
    return mean if value.half is None else f"{mean} ± {value.half:.2f}"
