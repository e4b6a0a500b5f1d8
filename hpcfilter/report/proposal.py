"""A page for a facility proposal: node-hours with and without a filter, efficiency, storage, walltimes, in Markdown.

What was measured and what is modelled is said at every table.
"""

import math
import statistics
from pathlib import Path

import numpy as np

from hpcfilter.job import Job, clock
from hpcfilter.predict import Link, Step, epoch_seconds, hierarchical, ring, tree
from hpcfilter.report.form import Table, number
from hpcfilter.report.runs import read_config, read_run
from hpcfilter.report.scaling import tables
from hpcfilter.report.study import bases, kind

GIB, HOUR = 2**30, 3600


def proposal(points, target=None, machine=None, epochs=None, trainings=1, allreduces=None, walltime=None):
    """The page. points, target: of `study`. machine: machine.Machine whose nodes and links the model is carried to, or None.

    epochs: of one training; default as the runs' config says. trainings: how many are planned. allreduces: ranks -> predict.Fit.
    walltime: of one job, seconds; default the machine's. Returns text.
    """
    folder = points[0].runs[0]
    run, config = read_run(folder)[0], read_config(folder)
    epochs = epochs or config.get("train", {}).get("epochs", 1)
    parts = [_head(points, run, machine, epochs, trainings), *(table.markdown() for table in tables(points, target, allreduces)),
             node_hours(points, epochs, trainings).markdown(), storage(points, config, trainings).markdown(),
             walltimes(points, epochs, machine, walltime).markdown()]
    if machine is not None and machine.links is not None:
        parts.append(at_scale(points, machine, epochs).markdown())
    else:
        parts.append("## On more nodes\n\nNot modelled: give a --machine whose profile has a table [links].")
    return "\n\n".join(parts) + "\n"


def _head(points, run, machine, epochs, trainings):
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items() if version)
    on = f" Planned on {machine.name}: {machine.about}." if machine else ""
    return (f"# Node-hours with and without filtering\n\n"
            f"{trainings} training{'s' * (trainings > 1)} of {epochs} epochs over {points[0].samples:,} samples, network of "
            f"{points[0].gradient_bytes / 4:,.0f} parameters (as float32).{on}\n\n"
            f"Measured: {kind(points)} scaling on {', '.join(sorted({str(point.ranks) for point in points}, key=int))} ranks ({run['device']}, "
            f"{run['started'][:10]}; {versions}; commit {(run['commit'] or 'unknown')[:8]}). Modelled numbers are called modelled.")


def node_hours(points, epochs, trainings=1):
    """Node-hours of a training by policy and size: measured for an epoch, that many times for the rest. Returns Table."""
    hours = {(point.policy, point.ranks, point.global_batch): point.nodes * statistics.mean(point.total_seconds) / HOUR for point in points}
    rows = []
    for point in points:
        mine, plain = hours[point.policy, point.ranks, point.global_batch], hours.get(("none", point.ranks, point.global_batch))
        saved = "-" if plain is None or point.policy == "none" else f"{100 * (1 - mine / plain):.1f} %"
        rows.append([point.policy, str(point.nodes), str(point.ranks), number(mine), number(mine * epochs), number(mine * epochs * trainings), saved,
                     f"{100 * point.hidden:.1f} %", f"{100 * statistics.mean(point.accuracy):.2f} %" if point.accuracy else "-"])
    head = ["policy", "nodes", "ranks", "per epoch (measured)", "per training (modelled)", f"all {trainings} (modelled)", "saved", "hidden",
            "accuracy"]
    return Table("Node-hours", head, rows, [f"An epoch is measured, with evaluation and checkpoint; a training is {epochs} of them. Accuracy is what "
                                            "the measured runs reached, which may be shorter than a training."])


def storage(points, config, trainings=1):
    """What the data and the run folders take. Returns Table."""
    folder, keep = points[0].runs[0], config.get("checkpoint", {}).get("keep", 2)
    data = Path(config.get("data", {}).get("path", ""))
    generation = max((_size(each) for each in (folder / "checkpoints").glob("epoch-*")), default=0)
    whole = keep * generation + (folder / "metrics.jsonl").stat().st_size
    rows = [["packed data", number(data.stat().st_size / GIB) if data.is_file() else "-", "once; on every node when it is staged"],
            ["one checkpoint", number(generation / GIB), f"the newest {keep} are kept, and one more while it is written"],
            [f"run folders of {trainings}", number(trainings * (whole + generation) / GIB), "checkpoints and metrics"]]
    return Table("Storage", ["what", "GiB", "note"], rows, ["Sizes of the files of a measured run."])


def walltimes(points, epochs, machine=None, walltime=None):
    """How many jobs of a walltime (seconds, default the machine's) a training takes, by policy and size. Returns Table."""
    job = machine.job if machine else Job()
    job = job.model_copy(update={"walltime": walltime or job.walltime})
    rows = []
    for point in points:
        seconds = epochs * statistics.mean(point.total_seconds)
        jobs = math.ceil(seconds / max(1, job.walltime - job.grace_seconds))
        rows.append([point.policy, str(point.nodes), str(point.ranks), number(seconds / HOUR), str(jobs), clock(job.walltime),
                     number(jobs * point.nodes * job.walltime / HOUR), _fits(point.nodes, job, machine)])
    head = ["policy", "nodes", "ranks", "hours of training (modelled)", "jobs", "walltime of each", "node-hours asked for", "queue"]
    return Table("Walltime mix", head, rows, [f"A job saves and leaves {job.grace_seconds} s before its walltime, and is queued again until the run "
                                              "is done; starting costs what hpcfilter doctor and the queue say."])


def at_scale(points, machine, epochs):
    """The model on up to all the nodes of a machine's largest limit, weak scaling. Returns Table; all of it is modelled."""
    first = bases(points)
    base = first.get("none", points[0])
    filtered = next((point for policy, point in first.items() if policy != "none"), base)
    per_node, batch = machine.job.ranks_per_node, base.global_batch / base.ranks
    inside, between = (Link(machine.links.latency, width) for width in (machine.links.inside, machine.links.between))
    step = Step(base.parts["forward"], base.parts["backward"], base.parts["input"] + base.parts["optimiser"] + base.other)
    scoring = sum(filtered.phases[phase] * filtered.ranks for phase in ("select", "rebalance", "score"))
    rows = []
    for nodes in _sizes(machine):
        ranks = nodes * per_node
        ways = {"ring": ring(base.gradient_bytes, ranks, Link(between.latency, between.bandwidth / per_node)),
                "tree": tree(base.gradient_bytes, ranks, Link(between.latency, between.bandwidth / per_node)),
                "hierarchical": hierarchical(base.gradient_bytes, nodes, per_node, inside, between)}
        best = step.seconds(min(ways.values()))
        hours = [nodes * epochs * float(epoch_seconds(base.samples, share, batch * ranks, best, extra)) / HOUR
                 for share, extra in ((0.0, 0.0), (filtered.hidden, scoring / ranks))]
        rows.append([str(nodes), str(ranks), *(f"{1e3 * float(took):.3g} ms, {float(step.efficiency(took)):.2f}" for took in ways.values()),
                     number(hours[0]), number(hours[1])])
    head = ["nodes", "ranks", "flat ring, efficiency", "tree, efficiency", "hierarchical, efficiency", "node-hours, all samples",
            f"node-hours, {filtered.policy}"]
    links, on = machine.links, f"{base.ranks} rank{'s' * (base.ranks > 1)}"
    return Table("On more nodes: all of it modelled", head, rows, [
        f"Alpha-beta model: {links.latency:g} s per message, {links.between / 1e9:g} GB/s out of a node, {links.inside / 1e9:g} GB/s inside it "
        f"({links.source}). Steps as measured on {on}, so on that processor; {100 * step.overlap:.0f} % of the backward pass hides communication; "
        f"{batch:g} samples per rank and step; {100 * filtered.hidden:.1f} % hidden. Node-hours with the fastest of the three. Training only, "
        "without evaluation and checkpoints."])


def _sizes(machine):
    most = max((limit.nodes[1] for limit in machine.limits), default=1024)
    return [*(int(nodes) for nodes in 2.0 ** np.arange(0, math.log2(most) - 1e-9)), most]


def _fits(nodes, job, machine):
    """The queue of the machine that takes a job of so many nodes, in words."""
    if machine is None or not machine.limits:
        return "-"
    queues = [limit.queue for limit in machine.limits if limit.nodes[0] <= nodes <= limit.nodes[1] and job.walltime <= limit.walltime]
    return ", ".join(dict.fromkeys(queues)) or "none takes it"


def _size(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
