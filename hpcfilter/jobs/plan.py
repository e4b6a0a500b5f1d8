"""All that is to be known of a job before it is submitted: the run config, the machine, the layout, and
that they fit each other."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from hpcfilter.base.errors import InputError
from hpcfilter.jobs.container import brings_libraries, check_container, holds_python, image
from hpcfilter.jobs.layout import Layout, check_options, draw, lay_out
from hpcfilter.jobs.limits import check_memory, check_queue, requeued
from hpcfilter.jobs.machine import Machine, load_machine
from hpcfilter.jobs.schema import Job, clock
from hpcfilter.train.checks import global_batch
from hpcfilter.train.config import Config, load

HORIZON = 60, 600  # seconds after which Horovod warns of a stalled tensor, and gives up


@dataclass(frozen=True)
class JobPlan:
    """One job to be."""

    config_path: str  # as the script names it, from the working folder
    settings: tuple  # "a.b=value" that override the run config, without those of the job
    run_dir: str
    repeats: int  # tasks of a job array, each with a run folder of its own
    config: Config
    job: Job  # with the machine's defaults
    machine: Machine
    layout: Layout

    @property
    def workdir(self):
        """The folder that the script works in, absolute."""
        return str(Path(self.job.workdir or Path.cwd()).absolute())

    @property
    def script(self):
        """Where the script is written to, from the working folder."""
        return f"{self.run_dir}/job.sh"

    @property
    def staged_bytes(self):
        """Of the data that is brought to one node; 0 when none is. Of an archive its own size."""
        stage = self.job.stage
        if stage.method == "none":
            return 0
        size = os.path.getsize(stage.source or self.config.data_file())
        return size // self.layout.nodes if stage.part else size

    @property
    def node_hours(self):
        """Of one job (of each task of an array)."""
        return self.layout.nodes * self.job.walltime / 3600


def plan(config_path, run_dir=None, settings=(), repeats=1):
    """JobPlan one job. config_path: run config. run_dir: default runs/NAME. settings: "a.b=value" strings,
    those of the job too. Returns JobPlan.

    Raises InputError, with the valid choices, for everything that would go wrong on the machine
    and can be seen from here.
    """
    _check_words({"run config": config_path, "--run-dir": run_dir or "runs",
                  **{f"--set {number}": word for number, word in enumerate(settings, 1)}})
    config = load(config_path, settings)
    machine = load_machine(config.job.machine)
    job = machine.job.model_copy(update={name: getattr(config.job, name)
                                         for name in config.job.model_fields_set})
    with config.places():
        layout = lay_out(job, machine)
        check_options(job, machine)
        check_queue(job, machine)
        job = requeued(job, machine, config.job.requeue and "requeue" in config.job.model_fields_set)
        check_container(job, machine)
        _check_signal(job, machine, config)
        _check_data(job, machine, config)
    own = tuple(setting
                for setting in settings if setting.partition("=")[0].partition(".")[0].strip() != "job")
    paths = (config_path, run_dir or f"runs/{job.name}")
    if job.workdir:  # the script works there, and what is relative means the folder of the submission
        if not Path(job.workdir).is_dir():
            raise InputError(f"job.workdir: no folder {job.workdir}")
        paths, own = (Path(path).absolute() for path in paths), (*own, f"data.path={config.data.path}")
    config_path, run_dir = (str(Path(path)) for path in paths)
    made = JobPlan(config_path, own, run_dir, repeats, config, job, machine, layout)
    with config.places():
        check_memory(job, machine, made.staged_bytes)
    return made


def _check_words(words):
    """Raise InputError unless these can stand in a script as they are. words: where it was said -> text."""
    for where, word in words.items():
        if not str(word).isprintable() or str(word).startswith("-"):
            raise InputError(f"{where}: got {str(word)[:200]!r}, expected one printable line that does not "
                             "begin with -")


def _check_signal(job, machine, config):
    if machine.scheduler == "sge" and job.signal != "USR1":
        raise InputError(f"job.signal: got {job.signal} for {machine.name} with sge, whose notice is USR1; "
                         "expected USR1")
    if job.signal not in config.stop.signals:
        raise InputError(f"job.signal: got {job.signal}, which the ranks do not listen to; "
                         f"expected one of stop.signals: {', '.join(config.stop.signals)}")


def _check_data(job, machine, config):
    stage = job.stage
    source = Path(stage.source) if stage.source else config.data_file()
    if not source.is_file():
        raise InputError(f"{'job.stage.source' if stage.source else 'data.path'}: no file {source}; "
                         f"make one with: hpcfilter pack SOURCE -o {source}")
    if stage.method == "none":
        if stage.part:
            raise InputError('job.stage.part: got true with job.stage.method = "none"; '
                             'expected the method copy')
        return
    if "$" in config.data.path.name:
        raise InputError(f"data.path: got {config.data.path}; a file that is staged may have no $ in "
                         "its name")
    if not (stage.folder or machine.node.storage):
        raise InputError(f"job.stage.folder: missing; {machine.name} names no node-local storage")
    if machine.template == "ibrun.sh.j2" and job.ranks_per_node > 1:
        raise InputError(f"job.stage.method: got {stage.method} with {job.ranks_per_node} ranks on each node "
                         f"of {machine.name}, where ibrun would stage as often; expected none, or one rank")
    if stage.method == "sbcast" and machine.scheduler != "slurm":
        raise InputError(f"job.stage.method: got sbcast, which is Slurm's, on {machine.name} with "
                         f"{machine.scheduler}; expected none, copy or tar")
    if bool(stage.source) != (stage.method == "tar"):
        raise InputError("job.stage.source: the archive that method = tar unpacks, and no other; "
                         f"got {stage.source!r} with method {stage.method}")
    if stage.part and (stage.method != "copy" or config.data.order != "shard"):
        raise InputError("job.stage.part: "
                         f"got the method {stage.method} and data.order = {config.data.order}; "
                         "expected copy and shard, the order in which a rank reads its own rows only")


def environment(plan):
    """The variables that the script exports, name -> text in which ${NAME} is expanded: ours, the machine's,
    the user's, later ones win."""
    job, machine, gpus = plan.job, plan.machine, plan.layout.gpus_per_rank
    ours = {"OMP_NUM_THREADS": str(plan.layout.threads), "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1",
            "HDF5_USE_FILE_LOCKING": "FALSE", "HOROVOD_STALL_CHECK_TIME_SECONDS": str(HORIZON[0]),
            "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": str(HORIZON[1])}
    if not job.mpi4py:
        # the more ranks, the longer until the last one has read Python and torch
        ours |= {"HPCFILTER_COMM": "torch", "HPCFILTER_MEET_SECONDS": str(120 + plan.layout.ranks // 10)}
    if not gpus:
        ours["CUDA_VISIBLE_DEVICES"] = ""
    if gpus and machine.gpu_visibility:
        ours["HPCFILTER_GPU"] = machine.gpu_visibility
    return {**ours, **machine.env, **(machine.gpu_env if gpus else {}),
            **(machine.image_env if gpus and brings_libraries(job) else {}), **job.env}


def python(plan):
    """The interpreter that the ranks use: text in which the script expands ${NAME} where it lies in a
    virtual environment that an image uses."""
    job = plan.job
    if job.python or not (job.venv or job.conda_env or job.container.kind != "none"):
        return job.python or sys.executable
    return f"{job.venv}/bin/python" if job.venv and holds_python(job.container) else "python"


def describe(plan, chain=1):
    """What the job will be, for a person: its ranks on the node, its time, what it costs. chain: jobs that
    follow each other. Returns text."""
    job, machine, layout = plan.job, plan.machine, plan.layout
    each = (f"{layout.cpus_per_rank} cores, {'1 GPU' if layout.gpus_per_rank else 'no GPU'}, "
            f"OMP_NUM_THREADS={layout.threads}")
    notice = f"{job.signal} and by the deadline" if machine.tells_ranks else "the deadline"
    lines = [f"{machine.name} ({machine.scheduler}): {machine.about}",
             f"{layout.nodes} nodes x {layout.ranks_per_node} ranks = {layout.ranks} ranks, each {each}",
             draw(layout, machine), f"walltime {clock(job.walltime)}; told to leave {job.grace_seconds} s "
             f"before its end, by {notice}"]
    if job.container.kind != "none":
        lines.append(f"Python runs in the image {image(job.container)}, by {job.container.kind}")
    count = plan.repeats * chain
    jobs = (f"{plan.node_hours * count:.6g} node-hours at most"
            + (f", {count} jobs of {plan.node_hours:.6g}" if count > 1 else ""))
    lines.append(f"{jobs}, and as much in each of up to {job.max_requeues} requeues" if job.requeue
                 else f"{jobs}; not requeued")
    batch = global_batch(plan.config, layout.ranks)
    idle = f" ({layout.ranks - batch} of the ranks have none)" if batch < layout.ranks else ""
    lines.append(f"global batch {batch}, {batch / layout.ranks:.6g} samples per rank and step{idle}, "
                 f"policy {plan.config.policy}")
    size = os.path.getsize(job.stage.source or plan.config.data.path)
    lines.append(f"data {job.stage.source or plan.config.data.path}: {size / 2**30:.3g} GiB, "
                 + _staging(plan))
    return "\n".join(lines)


def _staging(plan):
    stage = plan.job.stage
    if stage.method == "none":
        return "read from where it lies"
    return (f"{'each part' if stage.part else 'all'} of it brought to "
            f"{stage.folder or plan.machine.node.storage} of every node by {stage.method}")
