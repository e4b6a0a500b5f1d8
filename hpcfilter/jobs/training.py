"""What the ranks of a job would refuse, refused before the wait in the queue: the list of `checks`, and what
layout and run folder add to it."""

import errno
import os
from contextlib import chdir
from pathlib import Path

from hpcfilter.base.errors import InputError
from hpcfilter.data import open_packed
from hpcfilter.train import checkpoint
from hpcfilter.train.checks import check_run, fixed, given_rows
from hpcfilter.train.exchange import check_adasum

SITES_OWN = "torch", "mpi4py", "horovod"  # modules that a login node may lack


def check_training(plan):
    """Raise InputError for what would end the job of a plan at its beginning, in the words of `train`. No row
    is read, nothing is made.

    Returns lines that say what cannot be checked here.
    """
    check_folder(plan)
    with plan.config.places(), chdir(plan.workdir):
        _check_layout(plan)
        left = _check_run(plan)
    return [f"not checked here: {key}: {why}" for key, why in left.items()]


def check_folder(plan):
    """Raise InputError when the run of a plan is finished, or its folder cannot be made or written to."""
    folder = Path(plan.workdir, plan.run_dir)
    if is_finished(plan):
        raise InputError(f"{folder}: the run is finished; to train it further, raise train.epochs and remove "
                         f"{folder / 'DONE'}, or take another --run-dir")
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        problem = errno.EACCES if there.is_dir() else errno.ENOTDIR
        raise InputError(f"{folder}: cannot be the run folder: {os.strerror(problem)} ({there})")


def is_finished(plan):
    """Whether the run of a plan is done, so that a job would have nothing to do."""
    return Path(plan.workdir, plan.run_dir, "DONE").exists()


def _check_layout(plan):
    """What the ranks find out of their GPUs, and of their number."""
    train, layout = plan.config.train, plan.layout
    names = "CUDA_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"
    named = any(name in env for env in (plan.machine.env, plan.job.env) for name in names)
    if train.device in ("cuda", "xpu") and not (layout.gpus_per_rank or named):
        raise InputError(f'train.device: got {train.device}, but the ranks of this job see no GPU; '
                         'expected job.gpus_per_rank = 1, or the device "auto"')
    # with GPUs it may bring the nodes together, not the ranks; what fits the ranks fits the nodes too
    if plan.config.exchange.kind == "adasum":
        check_adasum(*(layout.nodes, "nodes") if layout.gpus_per_rank else (layout.ranks, "ranks"))


def _check_run(plan):
    """What the ranks find in the run config, in the data, and in the run folder, from where --resume goes on.

    Returns what cannot be checked here: key of the config -> why.
    """
    config, ranks = plan.config, plan.layout.ranks

    def elsewhere(reason):
        return _may_succeed_there(plan.job, reason)

    if plan.job.stage.method == "tar":
        return {"data.path": f"it is in {plan.job.stage.source}", **check_run(config, None, ranks, elsewhere)}
    dataset = open_packed(config.data_file())
    left = check_run(config, dataset, ranks, elsewhere)
    if "filter.policy" not in left:
        given_rows(config, dataset)
    _check_starts(config)
    for number in range(plan.repeats):
        folder = Path(plan.run_dir, *([f"repeat-{number + 1}"] if plan.repeats > 1 else []))
        path, stamp = checkpoint.glance(folder / "checkpoints")
        if path:
            checkpoint.check(stamp, path, data=dataset.digest)
            checkpoint.check_settings(stamp, path, {**fixed(config, ranks), "seed": config.seed + number})
    return left


def _check_starts(config):
    """Raise InputError for a run folder without weights to begin with. Whether they fit is
    known where torch is."""
    for key, folder in config.starts().items():
        if not any(checkpoint.ends_epoch(path)
                   for path in checkpoint.generations(Path(folder, "checkpoints"))):
            raise InputError(f"{key}: {folder}: no checkpoints there of a finished epoch; "
                             "expected a run folder that `hpcfilter train` has written")


def _may_succeed_there(job, reason):
    """Whether an import that fails here may succeed where the ranks run: the job brings modules of its own,
    or the fault may be this machine's."""
    if isinstance(reason, ModuleNotFoundError):
        return (bool(job.workdir or job.modules or job.source or job.venv or job.conda_env or job.python
                     or job.container.kind != "none" or job.wrap)
                or reason.name in SITES_OWN)
    return isinstance(reason, (ImportError, OSError, RuntimeError, AssertionError))
