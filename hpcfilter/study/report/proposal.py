"""A page for a facility proposal: node-hours with and without a filter, efficiency, storage,
walltimes, in Markdown.

What was measured and what is modelled is said at every table.
"""

import math
from pathlib import Path

from hpcfilter.base.errors import InputError
from hpcfilter.jobs.schema import Job, clock
from hpcfilter.study.predict import Link, Step, epoch_seconds, selection_seconds, ways
from hpcfilter.study.report.form import Interval, Share, TextTable
from hpcfilter.study.report.scaling import tables
from hpcfilter.study.report.statistics import quotient
from hpcfilter.study.report.study import bases, kind

GIB, HOUR = 2**30, 3600


def proposal(points, target=None, machine=None, epochs=None, trainings=1, allreduces=None, walltime=None):
    """The page. points, target: of `study`. machine: machine.Machine whose nodes and links the
    model is carried to, or None.

    epochs: of one training; default as the runs' config says. trainings: how many are planned.
    allreduces: ranks -> predict.Fit. walltime: of one job, seconds; default the machine's. Returns text.
    Raises InputError for a walltime that leaves no time to train.
    """
    epochs = epochs or points[0].records[0].settings.get("train.epochs", 1)
    parts = [_head(points, machine, epochs, trainings),
             *(table.markdown() for table in tables(points, target, allreduces)),
             node_hours(points, epochs, trainings).markdown(), storage(points, trainings).markdown(),
             walltimes(points, epochs, machine, walltime).markdown()]
    if machine is None or machine.links is None:
        parts.append("## On more nodes\n\nNot modelled: give a --machine whose profile has a table [links].")
    elif bases(points)[points[0].policy].parts is None:
        parts.append("## On more nodes\n\nNot modelled: the runs do not say what the parts of a step take.")
    else:
        parts.append(at_scale(points, machine, epochs, allreduces).markdown())
    return "\n\n".join(parts) + "\n"


def _head(points, machine, epochs, trainings):
    run = points[0].records[0].run
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items() if version)
    ranks = ", ".join(sorted({str(point.ranks) for point in points}, key=int))
    size = (f" Gradients of {points[0].bytes['gradients'] / points[0].steps / 1e6:,.4g} MB."
            if points[0].bytes else "")
    return ("# Node-hours with and without filtering\n\n"
            f"{trainings} training{'s' * (trainings > 1)} of {epochs} epochs over {points[0].samples:,} "
            f"samples.{size}{f' Planned on {machine.name}: {machine.about}.' if machine else ''}\n\n"
            f"Measured: {' '.join(filter(None, [kind(points), 'scaling']))} on {ranks} ranks, "
            f"{_where(points)}, {run['started'][:10]} ({versions}; commit "
            f"{(run['commit'] or 'unknown')[:8]}). Numbers that were not measured are called modelled.")


def _where(points):
    """The machines that the runs were on."""
    runs = [record.run for point in points for record in point.records]
    return "on " + ", ".join(sorted({f"{run.get('machine', 'an unknown machine')} "
                                     f"({run['device'].partition(':')[0]})" for run in runs}))


def node_hours(points, epochs, trainings=1):
    """Node-hours of a training by policy and size: measured for an epoch, that many times for the
    rest. Returns TextTable."""
    plain = {(point.ranks, point.global_batch): point for point in points if point.policy == "none"}
    rows = []
    for point in points:
        hours, base = point.total.mean * point.nodes / HOUR, plain.get((point.ranks, point.global_batch))
        spent = quotient(point.total, base.total) if base and base is not point else None
        saved = spent and Interval(100 * (1 - spent.mean), spent.half and 100 * spent.half)
        rows.append([point.policy, point.nodes, point.ranks, hours, hours * epochs, hours * epochs
                     * trainings, saved, Share(point.hidden), point.accuracy and point.accuracy.times(100)])
    head = ["policy", "nodes", "ranks", "per epoch (measured)", "per training (modelled)",
            f"all {trainings} (modelled)", "saved, %", "hidden", "accuracy, %"]
    return TextTable("Node-hours", head, rows, [
        f"An epoch is measured {_where(points)}, with evaluation and checkpoint; "
        f"a training is {epochs} of them. On other nodes an epoch takes another time. Hidden share and "
        f"accuracy are those of the measured runs, of up to {max(point.epochs for point in points)} epochs."])


def storage(points, trainings=1):
    """What the data and the run folders take. Returns TextTable."""
    record = points[0].records[0]
    keep, data = record.settings.get("checkpoint.keep", 2), Path(record.settings.get("data.path", ""))
    generation = max((_size(each) for each in (record.folder / "checkpoints").glob("epoch-*")), default=0)
    folder = (keep + 1) * generation + (record.folder / "metrics.jsonl").stat().st_size
    rows = [["packed data",
             data.stat().st_size / GIB if data.is_file() else None, "once; on every node when it is staged"],
            ["one checkpoint", generation / GIB,
             f"the newest {keep} are kept, and one more while it is written"],
            [f"run folders of {trainings}", trainings * folder / GIB, "checkpoints and metrics"]]
    return TextTable("Storage", ["what", "GiB", "note"], rows, ["Sizes of the files of a measured run."])


def walltimes(points, epochs, machine=None, walltime=None):
    """How many jobs of a walltime (seconds, default the machine's) a training takes, by policy and size.
    Returns TextTable. Raises InputError."""
    job = machine.job if machine else Job()
    walltime = walltime or job.walltime
    if walltime <= job.grace_seconds:
        raise InputError(f"--walltime: got {clock(walltime)}, expected more than the {job.grace_seconds} s "
                         "that leaving may take (job.grace_seconds)")
    rows = []
    for point in points:
        seconds = epochs * point.total.mean
        jobs = math.ceil(seconds / (walltime - job.grace_seconds))
        rows.append([point.policy, point.nodes, point.ranks, seconds / HOUR, jobs, clock(walltime),
                     jobs * point.nodes * walltime / HOUR, _queues(point.nodes, walltime, machine)])
    head = ["policy", "nodes", "ranks", "hours of training (modelled)", "jobs", "walltime of each",
            "node-hours asked for", "queue"]
    return TextTable("Walltime mix", head, rows, [
        f"Epochs as measured {_where(points)}. A job saves and leaves {job.grace_seconds} s before its "
        "walltime and is queued again until the run is done; what starting takes comes on top."])


def at_scale(points, machine, epochs, allreduces=None):
    """The model on up to all the nodes of a machine's largest limit, weak scaling. Returns TextTable;
    all of it is modelled."""
    first = bases(points)
    base = first.get("none", points[0])
    filtered = next((point for policy, point in first.items() if policy != base.policy), base)
    per_node, batch = machine.job.ranks_per_node, base.global_batch / base.ranks
    inside, between, links = _links(machine, allreduces or {}, per_node)
    widest = max((point for point in points if point.policy == base.policy and point.parts),
                 key=lambda point: point.ranks)
    step = Step(base.parts["forward"], base.parts["backward"], base.parts["input"] + base.parts["optimiser"]
                + base.parts["other"], fixed=widest.parts["communication"] if widest.ranks > 1 else 0.0)
    own = sum(filtered.phases[phase] * filtered.ranks for phase in ("select", "rebalance", "score"))
    gradients, rows = base.bytes["gradients"] / base.steps, []
    for nodes in _sizes(machine):
        ranks = nodes * per_node
        if batch * ranks > base.samples:
            break
        took = ways(gradients, nodes, per_node, inside, between)
        hours = [nodes * epochs * float(epoch_seconds(base.samples, share, batch * ranks, step,
                                                      took["hierarchical"], more)) / HOUR
                 for share, more in ((0.0, 0.0),
                                     (filtered.hidden, own / ranks + selection_seconds(ranks, between)))]
        rows.append([str(nodes), ranks, math.ceil(base.samples / (batch * ranks)),
                     *(f"{1e3 * float(seconds):.3g} ms, {float(step.efficiency(seconds)):.2f}"
                       for seconds in took.values()), *hours])
    head = ["nodes", "ranks", "steps per epoch", "flat ring, efficiency", "tree, efficiency",
            "hierarchical, efficiency", "node-hours, all samples", f"node-hours, {filtered.policy}"]
    exposed = (f"{1e3 * step.fixed:.3g} ms of communication per step that was exposed on {widest.ranks} ranks"
               if widest.ranks > 1 else "no fixed cost")
    return TextTable("On more nodes: all of it modelled", head, rows, [
        f"Alpha-beta model: {between.latency:.3g} s per message and {between.bandwidth / 1e9:.3g} GB/s out "
        f"of a node, {inside.bandwidth / 1e9:.3g} GB/s inside it ({links}); ranks packed. "
        f"Steps as measured on {base.ranks} rank{'s' * (base.ranks > 1)} {_where(points)}, and {exposed}; "
        f"it is assumed that {100 * step.overlap:.0f} % of the backward pass hides the allreduce.",
        f"{batch:g} samples per rank and step at every size, up to the size of the data set, and as many "
        f"epochs: whether so large a batch learns as well is not modelled. {100 * filtered.hidden:.1f} % "
        "hidden as measured; a rank's own share of selection and scoring shrinks with ranks, "
        "its messages are added. Node-hours with the hierarchical allreduce, of training alone."])


def _links(machine, allreduces, per_node):
    """(inside, between, where they are from): fitted when allreduces were measured on more ranks than a node
    has, else of the profile."""
    inside = Link(machine.links.latency, machine.links.inside)
    if (most := max(allreduces, default=0)) > per_node:
        return (inside, allreduces[most].link(),
                f"out of a node fitted to allreduces on {most} ranks; inside: {machine.links.source}")
    return inside, Link(machine.links.latency, machine.links.between), machine.links.source


def _sizes(machine):
    most = max((limit.nodes[1] for limit in machine.limits), default=1024)
    return [*(1 << power for power in range(most.bit_length()) if 1 << power < most), most]


def _queues(nodes, walltime, machine):
    """The queues of the machine that take a job of so many nodes, in words."""
    if machine is None or not machine.limits:
        return "-"
    queues = [limit.queue for limit in machine.limits
              if limit.nodes[0] <= nodes <= limit.nodes[1] and walltime <= limit.walltime and not limit.qos]
    return ", ".join(dict.fromkeys(queues)) or "none takes it"


def _size(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
