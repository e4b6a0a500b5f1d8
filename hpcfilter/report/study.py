"""A scaling study: runs of one config on several numbers of ranks, with and without a filter, brought together by policy and ranks."""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from hpcfilter.errors import InputError
from hpcfilter.report.runs import read_config, read_rows, read_run

PARTS = ("input", "forward", "backward", "communication", "optimiser")  # of a step
PHASES = ("select", "rebalance", "score", "evaluate", "checkpoint")  # of an epoch, beside "train"
TRAINING = ("select", "rebalance", "train", "score")  # the phases that count as training in samples per second


@dataclass
class Point:
    """All runs of one policy on one number of ranks. Lists have one value per epoch, or per run; the first epoch of each run is left out."""

    policy: str
    ranks: int
    nodes: int
    global_batch: int
    samples: int  # in the data set
    runs: list  # folders
    rates: list  # samples trained per second of TRAINING, each epoch
    epoch_seconds: list  # of TRAINING, each epoch
    total_seconds: list  # of everything, each epoch
    parts: dict  # of PARTS: mean seconds per step
    other: float  # seconds per step that are in no part: seeds, bookkeeping
    phases: dict  # of PHASES: mean seconds per epoch
    gradient_bytes: float  # that a rank adds to the sum in a step
    other_bytes: float  # that all ranks send in an epoch for selection and observations
    joules: float | None  # mean per epoch
    accuracy: list  # best of each run; empty without classes
    reached: list  # seconds until the target, of the runs that reach it
    hidden: float  # mean share

    @property
    def rate(self):
        """(mean, standard deviation or None) of `rates`."""
        return statistics.mean(self.rates), statistics.stdev(self.rates) if len(self.rates) > 1 else None

    def efficiency(self, base):
        """Share of the rate per rank of `base` (Point) that is left here. Returns (value, standard deviation or None), errors added in quadrature."""
        (mine, spread), (first, first_spread) = self.rate, base.rate
        value = mine / self.ranks / (first / base.ranks)
        if self is base or spread is None or first_spread is None:
            return value, None
        return value, value * math.hypot(spread / mine, first_spread / first)


def find_runs(path):
    """The run folders at or below a folder, sorted. Returns a list of Path; empty when there are none."""
    return sorted(found.parent for found in Path(path).rglob("metrics.jsonl"))


def study(run_dirs, target=None):
    """The Points of runs, sorted by policy (no filter first) and ranks.

    target: accuracy in [0, 1] for the time to it; default the highest one that every run reaches. Returns (points, target or None).
    Raises InputError when the runs are not of one data set.
    """
    found = [(Path(folder), *read_run(folder)[:2], read_rows(folder), read_config(folder)) for folder in run_dirs]
    if len({run["data"] for _, run, *_ in found}) > 1:
        raise InputError("report: these runs are of different data sets; a study needs one")
    bests = [best for _, _, epochs, *_ in found if (best := _best(epochs)) is not None]
    target = target if target is not None else min(bests, default=None)
    groups = {}
    for each in found:
        groups.setdefault((_label(each[4]), each[1]["ranks"], each[1]["global_batch"]), []).append(each)
    points = [_point(label, group, target) for (label, *_), group in groups.items()]
    return sorted(points, key=lambda point: (point.policy != "none", point.policy, point.ranks, point.global_batch)), target


def kind(points):
    """"weak" when the batch of a rank stays the same, "strong" when the global batch does, else "mixed"."""
    if len({point.global_batch for point in points}) == 1:
        return "strong"
    return "weak" if len({point.global_batch / point.ranks for point in points}) == 1 else "mixed"


def bases(points):
    """The Point that each policy's efficiency is measured from: that with the fewest ranks. Returns policy -> Point."""
    return {point.policy: point for point in sorted(points, key=lambda point: -point.ranks)}


def _label(config):
    table = config.get("filter", {})
    name = table.get("policy", "none")
    return f"{name} {table['fraction']:g}" if name != "none" and isinstance(table.get("fraction"), int | float) else name


def _best(epochs):
    return max((row["accuracy"] for row in epochs if row["accuracy"] is not None), default=None)


def _point(label, group, target):
    epochs = [row for _, _, rows, *_ in group for row in (rows[1:] or rows)]
    speeds = [row for _, _, rows, every, _ in group for row in _counted(every, rows)]
    run, steps = group[0][1], max(1, sum(row["steps"] for row in speeds))
    seconds = [sum(row["seconds"].get(phase, 0.0) for phase in TRAINING) for row in epochs]
    parts = {part: sum(row["parts"][part] * row["steps"] for row in speeds) / steps for part in PARTS}
    train = sum(row["seconds"]["train"] for row in epochs) / max(1, sum(row["steps"] for row in epochs))
    mean = {phase: statistics.mean(row["seconds"].get(phase, 0.0) for row in epochs) for phase in PHASES}
    bests = [best for _, _, rows, *_ in group if (best := _best(rows)) is not None]
    return Point(
        label, run["ranks"], -(-run["ranks"] // max(1, run["ranks_per_node"])), run["global_batch"], run["samples"], [each[0] for each in group],
        [row["kept"] / took for row, took in zip(epochs, seconds, strict=True)], seconds, [row["seconds"]["total"] for row in epochs], parts,
        max(0.0, train - sum(parts.values())), mean, sum(row["bytes"]["gradients"] for row in speeds) / steps / run["ranks"],
        statistics.mean([row["bytes"]["other"] for row in speeds] or [0.0]), _joules(group), bests,
        [took for _, _, rows, *_ in group if (took := _until(rows, target)) is not None],
        statistics.mean(row["hidden"] for row in epochs) / run["samples"])


def _counted(every, epochs):
    """The rows of kind "speed" of a run that belong to the epochs that count."""
    counted = {row["epoch"] for row in (epochs[1:] or epochs)}
    return [row for row in every if row["kind"] == "speed" and row["epoch"] in counted]


def _joules(group):
    """Mean joules per epoch, of runs in one piece; None where a node does not count them."""
    ends = [[row for row in every if row["kind"] == "speed"] for _, _, _, every, _ in group]
    spent = [rows[-1]["joules"] / len(rows) for rows in ends if rows and rows[-1]["joules"] is not None]
    return statistics.mean(spent) if spent and len(spent) == len(group) else None


def _until(epochs, target):
    """Seconds from the start of the run to the end of the first epoch at or above the target."""
    total = 0.0
    for row in epochs:
        total += row["seconds"]["total"]
        if target is not None and row["accuracy"] is not None and row["accuracy"] >= target:
            return total
    return None
