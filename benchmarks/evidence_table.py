"""The tables of the evidence: every arm beside all data and beside random choice at the same compute, seed by seed."""

import numpy as np

from hpcfilter.report.form import Share, Table
from hpcfilter.report.statistics import interval

HEAD = ["arm", "seeds", "accuracy", "against all data", "against random at equal compute", "worst class", "passes", "compute", "seconds",
        "core seconds"]
NOTE = ("Accuracy in percent, mean and 95 % interval over seeds (Student's t); differences are paired by seed, in points. Random choice at the "
        "compute of an arm is taken on the line between its measured fractions and all data. Compute: training passes and a third of the "
        "forward-only ones.")


def evidence_tables(results):
    """One Table per data set and batch size. results: lines of the case `evidence`, of one plan. Returns a list of Table."""
    groups = {}
    for row in results:
        groups.setdefault((row["parameters"]["data"], row["parameters"]["batch"]), []).append(row)
    return [Table(f"{data}, batch {batch}", HEAD, [_row(row, rows) for row in rows], [NOTE]) for (data, batch), rows in groups.items()]


def _row(row, rows):
    full = next((other for other in rows if other["parameters"]["role"] == "full"), None)
    return [row["parameters"]["arm"], str(len(row["seeds"])), points(interval([100 * value for value in row["accuracy"]]), signed=False),
            "" if row is full else points(against(row, {seed: value for seed, value in zip(full["seeds"], full["accuracy"], strict=True)})),
            points(against(row, at_equal_compute(row, rows))) if row["parameters"]["role"] != "full" else "",
            f"{100 * np.mean(row['worst_class']):.1f}", Share(np.mean(row["passes"])), Share(np.mean(row["compute"])),
            f"{np.mean(row['seconds']):.1f}", f"{np.mean(row['core_seconds']):.1f}"]


def against(row, others):
    """The Interval of the differences in points to others, seed -> accuracy; None without common seeds."""
    pairs = [100 * (mine - others[seed]) for seed, mine in zip(row["seeds"], row["accuracy"], strict=True) if seed in others]
    return interval(pairs) if pairs else None


def at_equal_compute(row, rows):
    """Accuracy of random choice at the compute of `row`, by linear interpolation between the random arms and all data. Returns seed -> accuracy, only
    of seeds that all of these arms have; empty when the compute lies outside of theirs."""
    line = sorted((other for other in rows if other["parameters"]["role"] in ("random", "full")), key=lambda other: np.mean(other["compute"]))
    at = [float(np.mean(other["compute"])) for other in line]
    wanted = float(np.mean(row["compute"]))
    if len(line) < 2 or not at[0] - 0.02 <= wanted <= at[-1] + 0.02:
        return {}
    seeds = set.intersection(*(set(other["seeds"]) for other in line))
    return {seed: float(np.interp(wanted, at, [other["accuracy"][other["seeds"].index(seed)] for other in line])) for seed in seeds}


def points(value, signed=True):
    """An Interval of percents or points as people read it."""
    if value is None:
        return "-"
    mean = f"{value.mean:+.2f}" if signed else f"{value.mean:.2f}"
    return mean if value.half is None else f"{mean} ± {value.half:.2f}"
