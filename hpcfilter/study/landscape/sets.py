"""The sets of samples that the landscape is looked at over: all of the training set, and what
the filter keeps of it."""

from dataclasses import dataclass

import numpy as np

from hpcfilter.base.errors import on_all
from hpcfilter.base.randomness import hash64
from hpcfilter.base.shard import shard
from hpcfilter.data import read_given, read_table
from hpcfilter.select.order import selection_digest
from hpcfilter.select.policies import Selection
from hpcfilter.train import checkpoint
from hpcfilter.train.parts import selector_of


@dataclass
class Kept:
    """What the filter keeps. keep: bool (N,), of all samples, on every rank. importance: float32
    (n_local,), of the owned ones.

    policy: its name. epoch: which one it was asked for, None for a table. fraction, threshold: NaN where
    there is none, or none on the scale of `importance`. digest: hex, of keep.
    """

    keep: np.ndarray
    importance: np.ndarray
    policy: str
    epoch: int | None
    fraction: float
    threshold: float
    digest: str


def kept_samples(config, network, dataset, path, stamp, comm, selection=None):
    """What the run's policy keeps when asked for the epoch after the checkpoint's, or where that
    is everything, for the last in which it hides something; with `selection`, what that table
    keeps. All ranks must call.

    path, stamp: the checkpoint, from which weights and scores are loaded. selection: path of a table made by
    `hpcfilter select`. Returns Kept. Raises InputError on all ranks, also when nothing is kept.
    """
    total, part = len(dataset.train), (comm.rank, comm.size)
    owned = shard(total, *part)
    with comm.together(), config.places():
        selector = selector_of(config, dataset, network, comm)
        table = (read_given(selection, ("keep", "weight"), owned, total, dataset.digest, part)
                 if selection else None)
        about = read_table(selection, range(0), None)[1] if selection else {}
    if stamp.get("score") != network.score.identity():
        raise on_all(f"score.name: the run of {path} has trained with {stamp.get('score')}, "
                     f"got {network.score.identity()}")
    scores = selector.scores
    checkpoint.load(path, network, comm, scores=scores)
    if selection:
        choice, epoch, name, parameters = (Selection(table["keep"]), None,
                                           str(about.get("policy", "static")), {})
        threshold = about.get("threshold", np.nan) if about.get("score") == network.score.name else np.nan
    else:
        choice, epoch = _last_that_hides(selector, stamp["epoch"] + 1)
        stretch = selector.stretch(epoch)
        name, parameters, threshold = stretch.policy, stretch.parameters, choice.threshold
    fraction = parameters.get("fraction", np.nan)
    keep = np.concatenate(comm.allgather(choice.keep))
    if not keep.any():
        raise on_all("filter: "
                     f"{name} keeps no sample in epoch {stamp['epoch'] + 1 if epoch is None else epoch}")
    return Kept(keep, scores.importance, name, epoch, float(fraction), float(threshold),
                selection_digest(choice, owned, comm))


def _last_that_hides(selector, last):
    """The selection of the newest epoch up to `last` that hides a sample: in their last epochs some policies
    train everything. All ranks must call.

    Returns (Selection, its epoch); those of `last` where no epoch hides any.
    """
    for epoch in range(last, -1, -1):
        choice = selector.select(epoch)
        if selector.comm.sum(np.count_nonzero(~choice.keep)):
            return choice, epoch
    return selector.select(last), last


def chosen(index, most, seed):
    """At most `most` of some samples, the first by a hash of (seed, index): the same on any number of ranks.
    index: int64 (n,), ascending.

    Returns int64 (min(n, most),), ascending. A smaller number of samples is a part of a larger
    one. most: None for all.
    """
    if most is None or most >= len(index):
        return index
    return np.sort(index[np.argpartition(hash64(seed, 0, index, "probe"), most - 1)[:most]])
