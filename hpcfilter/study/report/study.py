"""A scaling study: runs of one config on several numbers of ranks, with and without a filter, brought
together by settings and ranks."""

import statistics
from dataclasses import dataclass
from pathlib import Path

from hpcfilter.base.errors import InputError
from hpcfilter.study.report.form import Interval
from hpcfilter.study.report.runs import read_record
from hpcfilter.study.report.statistics import interval, quotient

PARTS = ("input", "forward", "backward", "communication", "optimiser")  # of a step
PHASES = ("select", "rebalance", "score", "evaluate", "checkpoint")  # of an epoch, beside "train"
# the phases that count as training in samples per second
TRAINING = ("select", "rebalance", "train", "score")
BYTES = ("gradients", "selection", "observations")
# settings in which the runs of one point may differ
FREE = {"seed", "data.path", "data.verify", "train.batch", "train.global_batch"}
FREE_TABLES = {"checkpoint", "stop"}


@dataclass
class Point:
    """All runs of the same settings on the same ranks. The first epoch after each start is
    left out of all means.

    parts and bytes are None when the runs have no rows of kind "speed", or those of a GPU that was not
    waited for (record.breakdown).
    """

    policy: str
    ranks: int
    nodes: int
    global_batch: int
    samples: int  # in the data set
    records: list  # of RunLog
    rate: Interval  # samples trained per second of TRAINING, over the runs
    epoch: Interval  # seconds of TRAINING per epoch, over the runs
    total: Interval  # seconds of everything per epoch, over the runs
    steps: float  # mean per epoch
    parts: dict | None  # of PARTS and "other" (seeds, bookkeeping): mean seconds per step
    phases: dict  # of PHASES: mean seconds per epoch
    bytes: dict | None  # of BYTES: mean per epoch and rank
    joules: float | None  # mean per epoch
    joules_of: str | None
    accuracy: Interval | None  # after the last epoch
    reached: list  # seconds until the target, of the runs that reach it
    hidden: float  # mean share
    epochs: int  # of the longest run

    def efficiency(self, base):
        """Share of the rate per rank of `base` (Point) that is left here. Returns Interval."""
        if self is base:
            return Interval(1.0, None)
        return quotient(self.rate, base.rate).times(base.ranks / self.ranks)


def find_runs(path):
    """The run folders at or below a folder, sorted. Returns a list of Path; empty when there are none."""
    return sorted(found.parent for found in Path(path).rglob("metrics.jsonl"))


def study(run_dirs, target=None):
    """The Points of runs, sorted by settings (no filter first) and ranks.

    target: accuracy in [0, 1] for the time to it; default: what every finished run without a
    filter reaches. Returns (points, target or None). Raises InputError when there is no run, or
    they are of different data sets.
    """
    records = [read_record(folder) for folder in run_dirs]
    if not records:
        raise InputError("report: no run here has finished an epoch yet")
    if len({record.run["data"] for record in records}) > 1:
        raise InputError("report: these runs are of different data sets; a study needs one")
    if target is None:
        bests = [max(right) for record in records
                 if record.end and record.policy == "none" and (right := record.accuracies)]
        target = min(bests, default=None)
    labels, groups = _labels(records), {}
    for record, label in zip(records, labels, strict=True):
        run = record.run
        groups.setdefault((label, run["ranks"], run["ranks_per_node"], run["global_batch"]),
                          []).append(record)
    points = [_point(label, group, target) for (label, *_), group in groups.items()]
    return sorted(points, key=lambda point: (not point.policy.startswith("none"), point.policy, point.ranks,
                                             point.global_batch)), target


def kind(points):
    """"weak" when the batch of a rank stays the same, "strong" when the global batch does,
    "mixed", or "" for one size."""
    if len({point.ranks for point in points}) == 1:
        return ""
    if len({point.global_batch for point in points}) == 1:
        return "strong"
    return "weak" if len({point.global_batch / point.ranks for point in points}) == 1 else "mixed"


def bases(points):
    """The Point that each policy's efficiency is measured from: that with the fewest ranks.
    Returns policy -> Point."""
    return {point.policy: point for point in sorted(points, key=lambda point: -point.ranks)}


def _labels(records):
    """What each run is called: its policy and fraction, and the settings by which runs that would be
    called the same differ."""
    settings = [{"device": record.run["device"].partition(":")[0],
                 **{key: str(value) for key, value in record.settings.items()
                    if key not in FREE and key.partition(".")[0] not in FREE_TABLES}} for record in records]
    labels = []
    for record, mine in zip(records, settings, strict=True):
        same = [other for other, its in zip(settings, records, strict=True) if its.label == record.label]
        keys = sorted({key for other in same for key in other if len({one.get(key) for one in same}) > 1})
        labels.append(" ".join([record.label, *(f"{key}={mine.get(key)}" for key in keys)]))
    return labels


def _point(label, group, target):
    run, counted = group[0].run, [record.counted() for record in group]
    epochs = [row for rows in counted for row in rows]
    seconds = [[sum(row["seconds"].get(phase, 0.0) for phase in TRAINING) for row in rows]
               for rows in counted]
    parts, moved = _speed(group, epochs)
    accuracies = [right[-1] for record in group if (right := record.accuracies)]
    joules = [row["joules"] for record in group for row in record.speeds() if row.get("joules_of")]
    return Point(
        label, run["ranks"], -(-run["ranks"] // max(1, run["ranks_per_node"])), run["global_batch"],
        run["samples"], group, rate=interval([sum(row["kept"] for row in rows) / sum(took)
                                              for rows, took in zip(counted, seconds, strict=True)]),
        epoch=interval([statistics.fmean(took) for took in seconds]),
        total=interval([statistics.fmean(row["seconds"]["total"] for row in rows) for rows in counted]),
        steps=statistics.fmean(row["steps"] for row in epochs), parts=parts,
        phases={phase: statistics.fmean(row["seconds"].get(phase, 0.0) for row in epochs)
                for phase in PHASES}, bytes=moved, joules=statistics.fmean(joules) if joules else None,
        joules_of=next((row["joules_of"] for record in group for row in record.speeds()
                        if row.get("joules_of")), None), accuracy=interval(accuracies) if accuracies
        else None, reached=[took for record in group if (took := record.seconds_until(target)) is not None],
        hidden=statistics.fmean(row["hidden"] for row in epochs) / run["samples"],
        epochs=max(len(record.epochs) for record in group))


def _speed(group, epochs):
    """(parts, bytes) of a Point, from the rows of kind "speed"."""
    rows = [row for record in group for row in record.speeds()]
    steps = sum(row["steps"] for row in rows)
    if not steps:
        return None, None
    ranks = group[0].run["ranks"]
    moved = {name: statistics.fmean(row["bytes"].get(name, 0) for row in rows) / ranks for name in BYTES}
    if not all(record.waited for record in group):
        return None, moved
    parts = {part: sum(row["parts"][part] * row["steps"] for row in rows) / steps for part in PARTS}
    train = sum(row["seconds"]["train"] for row in epochs) / max(1, sum(row["steps"] for row in epochs))
    return {**parts, "other": max(0.0, train - sum(parts.values()))}, moved
