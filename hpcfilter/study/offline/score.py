"""`hpcfilter score`: what every training sample is worth to a trained network."""

from pathlib import Path

import numpy as np

from hpcfilter.base.alive.watchdog import watching
from hpcfilter.base.errors import on_all
from hpcfilter.base.paths import check_output
from hpcfilter.base.shard import shard
from hpcfilter.data import open_packed
from hpcfilter.data.table import is_table
from hpcfilter.select.scores import Scores
from hpcfilter.study.offline.tables import write
from hpcfilter.train import checkpoint
from hpcfilter.train.network import Network

LOOK_BATCH = 512


def score(run_dir, comm, settings=(), epoch=None, output=None):
    """Score every training sample with a checkpoint of a run; each rank its own shard. All ranks must call.

    A score that remembers goes on from the run's memory if the run had that score, and else
    sees every sample once.

    run_dir: a run folder. settings: overrides of its config.toml, such as "score.name=el2n". epoch: which
    generation, default the newest. output: path of the table to write, default scores.h5 in the run folder.
    Returns (path, names of the columns). Raises InputError on all ranks.
    """
    path, stamp, config = checkpoint.of_run(run_dir, comm, settings, epoch)
    output = output or Path(run_dir) / "scores.h5"
    comm.on_first(lambda: check_output(output, checkpoint.sources(run_dir, config), mine=is_table,
                                       what="table of hpcfilter"))
    with watching(comm, config.stop.stall_seconds):
        return _score(config, path, stamp, Path(output), comm)


def _score(config, path, stamp, output, comm):
    """The score of a checked generation, written to `output`."""
    with comm.together():
        dataset = open_packed(config.data.path)
        owned = shard(len(dataset.train), comm.rank, comm.size)
        # whatever the order of the run: a rank looks at its own rows only
        dataset.check(comm.rank, comm.size, config.data.verify, "shard")
        with config.places():
            network = Network(config, dataset, comm.local_rank, comm.local_size)
        checkpoint.check(stamp, path, model=network.fingerprint(), data=dataset.digest)
        network.try_out(dataset.train, np.asarray(owned[:2]))
    scores = Scores(owned, len(dataset.train), network.score)
    of_the_run = stamp.get("score") == network.score.identity()
    if network.score.needs_batches and not of_the_run:
        raise on_all(f"score.name: {network.score.name} is taken while a network trains; "
                     f"the run of {path} has trained with {stamp.get('score')}")
    if network.score.columns and of_the_run:
        checkpoint.load(path, network, comm, scores=scores)  # the run's own memory, and this look on top
    else:
        checkpoint.load(path, network, comm)
    if network.score.needs_passes:
        for _, y in network.forward_all(dataset.train, np.asarray(owned), LOOK_BATCH):
            network.score.add(y, network.features.last, network.classes)
        network.score.merge(comm)
    seen, losses = network.infer(dataset.train, np.asarray(owned), LOOK_BATCH)
    if not network.score.needs_batches:
        scores.update(np.asarray(owned), seen)
    if not comm.max(int(np.isfinite(scores.importance).any() or np.isposinf(scores.importance).any())):
        raise on_all(f"score.name: {network.score.name} is not known after one look; "
                     f"it needs {network.score.warmup}, in a run with score.name = \"{network.score.name}\"")
    columns = {name: getattr(scores, name)
               for name in ("importance", *(("confidence", "correct") if network.classes else ()))}
    columns = {name: values.astype(np.uint8) if values.dtype == bool else values
               for name, values in {**columns, "loss": losses}.items()}
    about = {"score": network.score.name, "checkpoint": str(path), "epoch": stamp["epoch"],
             "data": dataset.digest}
    write(output, len(dataset.train), columns, about, comm)
    return output, list(columns)
