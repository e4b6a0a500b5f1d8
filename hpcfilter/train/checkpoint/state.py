"""What a generation holds, and its way back.

    model.pt     weights and optimiser; loaded with weights_only
    scores.h5    the columns of Scores, (N,) each; inside an epoch also its selection
    trained.h5   inside an epoch: what was observed of each sample trained in it so far, rank after rank
    buffers.h5   inside an epoch: the buffers of each rank's model (statistics of BatchNorm), which are
                 averaged only at its end
    stamp.json   epoch, step, ranks, digests of model and data, settings, counts, the row of
                 the last finished epoch

The samples are known by global index, so any other number of ranks can resume. torch is imported where there
are weights: what a run was is known without it.
"""

import json
import pickle
from pathlib import Path

import numpy as np

from hpcfilter.base.alive import faults
from hpcfilter.base.errors import InputError
from hpcfilter.base.paths import trouble
from hpcfilter.base.shard import shard
from hpcfilter.data import read_table, write_table
from hpcfilter.select.policies import Selection
from hpcfilter.train.checkpoint.generation import FORMAT, STAMP, of_epoch, writing
from hpcfilter.train.config import load as load_config

SELECTION = "selection."  # prefix of the columns of a selection
SAFE_TORCH = 2, 10  # before it, weights_only could be made to run code (CVE-2025-32434, CVE-2026-24747)


def save(folder, parts, progress, **stamp):
    """Write a generation, then drop the oldest ones. All ranks must call; rank 0 writes.

    folder: the run's checkpoints folder. parts, progress: train.Parts and train.Progress; inside an epoch,
    where progress.step counts, with what was seen of it. stamp: what else the stamp is to say, JSON-able.
    Raises Failure on rank 0 when the disk refuses.
    """
    import torch

    comm, network, updates, inside = parts.comm, parts.network, parts.updates, progress.step > 0
    tables = {"scores.h5": parts.selector.scores.columns()}
    epoch, step = (progress.epoch, progress.step) if inside else (progress.epoch - 1, None)
    stamp = {"format": FORMAT, "epoch": epoch, "step": step, "ranks": comm.size,
             "model": network.fingerprint(), **stamp}
    if inside:
        tables["scores.h5"] |= {f"{SELECTION}{name}": array
                                for name, array in progress.selection.columns().items()}
        rows = {name: array.view(np.uint8) if array.dtype == bool else array
                for name, array in progress.rows.items()}
        tables |= {"trained.h5": rows, "buffers.h5": {"bytes": network.buffers()}}
        lengths = [int(length[0]) for length in comm.allgather(np.array([len(rows["index"])]))]
        stamp |= {"rate": progress.rate, "seconds": progress.seconds,
                  "selection": progress.selection.numbers(), "trained_rows": lengths}
    lengths = {name: int(comm.sum(len(next(iter(table.values()))))) for name, table in tables.items()}
    gathered = {name: {column: (array.dtype, comm.gather(array)) for column, array in tables[name].items()}
                for name in tables if lengths[name]}
    if comm.rank == 0:
        with writing(folder, epoch, step, parts.config.checkpoint.keep) as temporary:
            weights = {"model": network.model.state_dict(), "optimizer": updates.optimizer.state_dict(),
                       "exchange": updates.exchange.state()}
            # opened here, a full disk is the OSError that it is
            with open(temporary / "model.pt", "wb") as file:
                torch.save(weights, file)
            faults.point("after_weights")
            for name, table in gathered.items():
                write_table(temporary / name, lengths[name], table, {"epoch": epoch})
            faults.point("after_samples")
            (temporary / STAMP).write_text(json.dumps(stamp, indent=1))
    comm.barrier()


def load(path, network, comm, updates=None, scores=None):
    """Put a generation in place: weights, and the optimiser's state and the owned samples' scores when they
    are given. All ranks must call.

    updates: train.Updates. Rank 0 reads the weights for all; every rank reads the rows that it owns. Raises
    InputError on all ranks when something does not fit.
    """
    state = comm.on_first(lambda: read_weights(path))
    with comm.together():
        try:
            network.model.load_state_dict(state["model"])
            if updates is not None:
                updates.optimizer.load_state_dict(state["optimizer"])
                updates.exchange.restore(state["exchange"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise InputError(f"{path}: does not fit: {' '.join(str(error).split())[:300]}") from None
        if scores is not None:
            _load_scores(path, scores)


def resume_epoch(path, stamp, parts, progress):
    """The epoch that a generation was taken in, at this rank, put into `progress`. All ranks must call,
    after the weights are equal.

    On as many ranks as it was taken on, each gets back its own observations and the buffers of its model. On
    another number the observations are shared out, to go home with the rest at the end of the epoch, and all
    keep the buffers of the first rank. Raises InputError on all ranks.
    """
    network, comm = parts.network, parts.comm
    same = stamp["ranks"] == comm.size
    with comm.together():
        columns, _, _ = _table(path, "scores.h5", parts.selector.scores.owned)
        chosen = {name.removeprefix(SELECTION): array
                  for name, array in columns.items() if name.startswith(SELECTION)}
        lengths = stamp["trained_rows"]
        mine = _block(lengths, comm.rank) if same else shard(sum(lengths), comm.rank, comm.size)
        progress.rows, _, _ = _table(path, "trained.h5", mine)
        length = network.buffers().size
        if same and length:
            network.set_buffers(_table(path, "buffers.h5",
                                       range(comm.rank * length, (comm.rank + 1) * length))[0]["bytes"])
    progress.selection = Selection.of(chosen, stamp["selection"])
    progress.epoch, progress.step, progress.rate, progress.seconds = (stamp["epoch"], stamp["step"],
                                                                      stamp["rate"], stamp["seconds"])


def _block(lengths, rank):
    start = sum(lengths[:rank])
    return range(start, start + lengths[rank])


def of_run(run_dir, comm, settings=(), epoch=None):
    """A generation of a run that ended an epoch, checked, and the run's config. All ranks must call.

    settings: overrides of its config.toml. epoch: which one, default the newest. Returns
    (path, stamp, Config). Raises InputError on all ranks.
    """
    with comm.together():
        check_torch()
    path, stamp = comm.on_first(lambda: of_epoch(run_dir, epoch))
    with comm.together():
        config = load_config(Path(run_dir) / "config.toml", settings)
    return path, stamp, config


def sources(run_dir, config):
    """The files that a run is made from and consists of, which nothing that is made of it may overwrite.
    Returns list of paths."""
    folder, tables = Path(run_dir), [config.filter,
                                     *(phase.filter for phase in config.phases if phase.filter)]
    named = [value for table in tables
             for value in (table.model_extra or {}).values() if isinstance(value, str)]
    return [config.data.path, folder / "config.toml", folder / "metrics.jsonl",
            *folder.glob("checkpoints/*/*"), *named]


def check_torch():
    """Raise InputError for a torch that cannot read weights safely: what it saves could never be resumed."""
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        raise InputError(f"torch {torch.__version__} cannot read checkpoints safely; "
                         f"expected torch {SAFE_TORCH[0]}.{SAFE_TORCH[1]} or newer")


def read_weights(path):
    """What model.pt of a generation holds, on the CPU. Raises InputError when it cannot be loaded."""
    import torch

    file = Path(path) / "model.pt"
    check_torch()
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{file}: cannot be loaded: {trouble(error)}") from None
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{file}: cannot be loaded: it is damaged, or holds something else "
                         "than weights") from error


def _load_scores(path, scores):
    columns, _, rows = _table(path, "scores.h5", scores.owned)
    if rows != scores.total:
        raise InputError(f"{path}: got {rows} samples, expected {scores.total}")
    try:
        scores.restore({name: array for name, array in columns.items() if not name.startswith(SELECTION)})
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]}") from None


def _table(path, name, owned):
    """The wanted rows of one of the tables, all of whose bytes `newest` has checked."""
    return read_table(Path(path) / name, owned, part=None)
