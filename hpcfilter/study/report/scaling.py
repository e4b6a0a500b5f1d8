"""The tables and the picture of a scaling study."""

from hpcfilter.study.report.form import Share, TextTable
from hpcfilter.study.report.runs import new_figure, save
from hpcfilter.study.report.statistics import interval
from hpcfilter.study.report.study import BYTES, PARTS, PHASES, bases, kind

INTERVAL = ("±: 95 % interval over the runs of a size, by Student's t; of an efficiency, "
            "both added in quadrature. The first epoch after each start is left out.")
NO_PARTS = "No parts: these runs have no rows of kind speed, or ran on a GPU without record.breakdown = true."


def tables(points, target=None, fits=None):
    """What a study has measured. points, target: of `study`. fits: ranks -> predict.Fit of measured
    allreduces. Returns a list of TextTable."""
    return [efficiency(points, target), breakdown(points), traffic(points, fits or {})]


def efficiency(points, target=None):
    """Samples per second, speed-up and efficiency. Returns TextTable."""
    first, rows = bases(points), []
    for point in points:
        base = first[point.policy]
        rows.append([point.policy, point.ranks, point.nodes, point.global_batch, len(point.records),
                     point.rate, point.rate.mean / base.rate.mean,
                     point.efficiency(base), point.epoch, Share(point.hidden),
                     point.accuracy and point.accuracy.times(100), interval(point.reached) if point.reached
                     else None, f"{len(point.reached)} of {len(point.records)}", point.joules])
    head = ["policy", "ranks", "nodes", "global batch", "runs", "samples/s", "speed-up", "efficiency",
            "s per epoch", "hidden", "accuracy, %", "s to target", "reach it", "J per epoch"]
    notes = [INTERVAL, "Accuracy: on the test split, after the last epoch."]
    if target is not None:
        notes.append(f"Target: test accuracy {100 * target:.2f} %; seconds of the runs that reach it.")
    if kinds := {point.joules_of for point in points if point.joules_of}:
        notes.append(f"Joules of: {', '.join(sorted(kinds))}.")
    if kind(points) == "mixed":
        notes.append("Neither weak nor strong: global batch and ranks vary together. "
                     "Give the runs of one kind.")
    return TextTable(", ".join(["Scaling", *filter(None, [kind(points)])]), head, rows, notes)


def breakdown(points):
    """Where the time goes. Returns TextTable."""
    rows = [[point.policy,
             point.ranks, *(point.parts and 1e3 * point.parts[part] for part in (*PARTS, "other")),
             *(1e3 * point.phases[phase] for phase in PHASES)] for point in points]
    head = ["policy", "ranks", "input wait", "forward", "backward", "exposed comm.", "optimiser", "other",
            "selection", "rebalancing", "scoring", "evaluation", "checkpoint"]
    notes = ["Means over ranks. Exposed communication: "
             "the wait for the sums of the gradients after the backward pass. Scoring: "
             "what was seen in training brought home, and the looks at hidden samples."]
    return TextTable("Milliseconds of a step (up to other), and of an epoch (from selection on)", head, rows,
                 notes + [NO_PARTS] * any(point.parts is None for point in points))


def traffic(points, fits):
    """Bytes, and the allreduce of the gradients as modelled beside what of it was exposed.
    Returns TextTable."""
    rows = []
    for point in points:
        fit, moved = fits.get(point.ranks), point.bytes
        per_step = moved and moved["gradients"] / point.steps
        rows.append([point.policy, point.ranks, moved and per_step / 1e6, moved and moved["gradients"] / 1e6,
                     *(moved and moved[name] / 1e3 for name in BYTES[1:]),
                     point.parts and 1e3 * point.parts["communication"],
                     1e3 * float(fit.seconds(per_step)) if fit and moved and point.ranks > 1 else None])
    head = ["policy", "ranks", "gradients, MB per step", "MB per epoch", "selection, KB per epoch",
            "observations, KB per epoch", "exposed comm., ms per step", "modelled allreduce, ms"]
    return TextTable("Bytes moved, payload of one rank", head, rows, [
        "Modelled: an allreduce of all gradients in one message, by a fit to measured allreduces on as many "
        "ranks; what the backward pass hides of it is not exposed, and waiting for slower ranks is "
        "exposed too."])


def picture(points, path):
    """Draw rate, efficiency and the parts of a step against the ranks into `path`. Needs matplotlib."""
    figure = new_figure((11, 4))
    rate, share, parts = figure.subplots(1, 3)
    first = bases(points)
    for policy, base in first.items():
        mine = [point for point in points if point.policy == policy]
        ranks = [point.ranks for point in mine]
        for axes, values in ((rate, [point.rate for point in mine]),
                             (share, [point.efficiency(base) for point in mine])):
            axes.errorbar(ranks, [value.mean for value in values], [value.half or 0 for value in values],
                          marker=".", capsize=3, label=policy)
    least = next(iter(first.values()))
    ranks = sorted({point.ranks for point in points})
    rate.plot(ranks, [least.rate.mean / least.ranks * number for number in ranks], "k:", label="ideal")
    for axes, label in ((rate, "samples/s"), (share, "efficiency")):
        axes.set(xscale="log", xlabel="ranks", ylabel=label, xticks=ranks, xticklabels=map(str, ranks))
        axes.minorticks_off()
        axes.legend()
    rate.set_yscale("log")
    share.set_ylim(0, None)
    bottom = [0.0] * len(points)
    for part in (*PARTS, "other"):
        height = [1e3 * point.parts[part] if point.parts else 0.0 for point in points]
        parts.bar(range(len(points)), height, bottom=bottom, label=part)
        bottom = [below + more for below, more in zip(bottom, height, strict=True)]
    parts.set_xticks(range(len(points)), [f"{point.policy}, {point.ranks}" for point in points], rotation=20,
                     ha="right", fontsize=8)
    parts.set_ylabel("ms per step")
    parts.legend(fontsize=8)
    save(figure, path)
