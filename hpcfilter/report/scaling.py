"""The tables and the picture of a scaling study."""

import statistics

from hpcfilter.report.form import Table, number, plus_minus
from hpcfilter.report.runs import new_figure, save
from hpcfilter.report.study import PARTS, PHASES, bases, kind

INTERVAL = "±: 1.96 standard deviations over the epochs of all repetitions, without the first epoch of each run."


def tables(points, target=None, fits=None):
    """What a study has measured. points, target: of `study`. fits: ranks -> predict.Fit of measured allreduces. Returns a list of Table."""
    return [efficiency(points, target), breakdown(points), traffic(points, fits or {})]


def efficiency(points, target=None):
    """Samples per second, speed-up and efficiency. Returns Table."""
    first, rows = bases(points), []
    for point in points:
        base = first[point.policy]
        share, spread = point.efficiency(base)
        rows.append([point.policy, str(point.ranks), str(point.nodes), str(point.global_batch), plus_minus(*point.rate, 4),
                     number(point.rate[0] / base.rate[0]), plus_minus(share, spread), number(statistics.mean(point.epoch_seconds)),
                     f"{100 * point.hidden:.1f} %", _accuracy(point), number(statistics.mean(point.reached)) if point.reached else "-",
                     number(point.joules)])
    head = ["policy", "ranks", "nodes", "global batch", "samples/s", "speed-up", "efficiency", "s per epoch", "hidden", "accuracy", "s to target",
            "J per epoch"]
    reached = [] if target is None else [f"Target: test accuracy {100 * target:.2f} %. Accuracy: the best of each run, mean."]
    return Table(f"Scaling, {kind(points)}", head, rows, [INTERVAL, *reached])


def breakdown(points):
    """Where the time goes. Returns Table."""
    rows = [[point.policy, str(point.ranks), *(number(1e3 * point.parts[part]) for part in PARTS), number(1e3 * point.other),
             *(number(1e3 * point.phases[phase]) for phase in PHASES)] for point in points]
    head = ["policy", "ranks", "input wait", "forward", "backward", "exposed comm.", "optimiser", "other", "selection", "rebalancing", "scoring",
            "evaluation", "checkpoint"]
    return Table("Milliseconds of a step (to other), and of an epoch (from selection on)", head, rows,
                 ["Means over ranks. Exposed communication is the wait for the sums of the gradients after the backward pass. On a GPU, parts are "
                  "exact with train.breakdown = true."])


def traffic(points, fits):
    """Bytes, and the allreduce of the gradients as modelled beside what of it was seen. Returns Table."""
    rows = []
    for point in points:
        fit = fits.get(point.ranks)
        modelled = None if fit is None or point.ranks == 1 else 1e3 * float(fit.seconds(point.gradient_bytes))
        steps = point.samples * (1 - point.hidden) / point.global_batch
        rows.append([point.policy, str(point.ranks), number(point.gradient_bytes / 1e6), number(point.gradient_bytes * steps / 1e6),
                     number(point.other_bytes / point.ranks / 1e3), number(1e3 * point.parts["communication"]), number(modelled)])
    head = ["policy", "ranks", "gradients, MB per step", "MB per epoch", "selection and observations, KB per epoch", "exposed comm., ms per step",
            "modelled allreduce, ms"]
    notes = ["Payload of one rank. The modelled allreduce is that of all gradients in one message, from a fit to measured allreduces on as many "
             "ranks; what the backward pass hides of it is not exposed."]
    return Table("Bytes moved", head, rows, notes)


def picture(points, path):
    """Draw rate, efficiency and the parts of a step against the ranks into `path`. Needs matplotlib."""
    figure = new_figure((11, 4))
    rate, share, parts = figure.subplots(1, 3)
    first = bases(points)
    for policy, base in first.items():
        mine = [point for point in points if point.policy == policy]
        ranks = [point.ranks for point in mine]
        rate.errorbar(ranks, [point.rate[0] for point in mine], [1.96 * (point.rate[1] or 0) for point in mine], marker=".", label=policy)
        both = [point.efficiency(base) for point in mine]
        share.errorbar(ranks, [value for value, _ in both], [1.96 * (spread or 0) for _, spread in both], marker=".", label=policy)
    least = next(iter(first.values()))
    ranks = sorted({point.ranks for point in points})
    rate.plot(ranks, [least.rate[0] / least.ranks * number for number in ranks], "k:", label="ideal")
    for axes, label in ((rate, "samples/s"), (share, "efficiency")):
        axes.set(xscale="log", xlabel="ranks", ylabel=label, xticks=ranks, xticklabels=map(str, ranks))
        axes.minorticks_off()
        axes.legend()
    rate.set_yscale("log")
    share.set_ylim(0, None)
    bottom = [0.0] * len(points)
    for part in PARTS:
        height = [1e3 * point.parts[part] for point in points]
        parts.bar(range(len(points)), height, bottom=bottom, label=part)
        bottom = [below + more for below, more in zip(bottom, height, strict=True)]
    parts.set_xticks(range(len(points)), [f"{point.policy}\n{point.ranks}" for point in points], fontsize=8)
    parts.set_ylabel("ms per step")
    parts.legend(fontsize=8)
    save(figure, path)


def _accuracy(point):
    return f"{100 * statistics.mean(point.accuracy):.2f} %" if point.accuracy else "-"
