"""What a run is made of on this rank. Made once from the config; what changes in it is saved
with Progress."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpcfilter.base.shard import shard
from hpcfilter.data import Dataset, augmentation, moved_late, open_packed
from hpcfilter.data.resident import ResidentRows
from hpcfilter.data.rows import Rows
from hpcfilter.record.clock import Laps
from hpcfilter.record.energy import Joules
from hpcfilter.record.metrics import Record
from hpcfilter.select.order import ORDERS, smallest_part
from hpcfilter.select.scores import Scores
from hpcfilter.select.selector import Selector
from hpcfilter.train import checkpoint
from hpcfilter.train.boundary import Boundary
from hpcfilter.train.checks import check_run, given_rows, global_batch, stretches_of
from hpcfilter.train.config import Config
from hpcfilter.train.network import Network, try_compiled, try_training
from hpcfilter.train.optim import batch_size
from hpcfilter.train.phases import check_phases
from hpcfilter.train.updates import Updates

# parts of a step; of the communication, what was not hidden
STEP = "input", "forward", "backward", "communication", "optimiser"


@dataclass(frozen=True)
class Parts:
    """Everything but how far the run has come (`Progress`) and where it is kept (`Folder`)."""

    config: Config
    comm: object  # comm.Comm
    record: Record
    dataset: Dataset
    rows: Rows  # of the training set
    test_rows: range  # of the test set, this rank's
    augment: Callable | None
    network: Network
    selector: Selector
    plan: Callable  # of select.order.ORDERS
    updates: Updates
    boundary: Boundary
    laps: Laps
    meter: Joules | None  # one per node
    global_batch: int


def make_parts(config, comm, engine, record):
    """The parts of a run on this rank. engine: of train.exchange. Raises InputError for what the config, the
    data or the machine cannot give."""
    dataset = open_packed(config.data_file())
    check_run(config, dataset, comm.size)
    dataset.check(comm.rank, comm.size, config.data.verify, config.data.order)
    network = Network(config, dataset, comm.local_rank, comm.local_size)
    augment = augmentation(config.data, dataset, moved_late(config.data, network.device.type != "cpu"))
    rows = ResidentRows(dataset.train, network.device) if config.data.resident else dataset.train
    selector = selector_of(config, dataset, network, comm)
    _try_out(config, dataset, network, selector.scores, comm, augment)
    wanted = global_batch(config, comm.size)
    updates = Updates(config, network, comm, engine, wanted)
    check_phases(updates, config)
    updates.make()
    boundary = Boundary(comm, checkpoint.Interval(config.checkpoint.seconds, config.checkpoint.mtbf_hours),
                        lambda: record.lost)
    laps = Laps(*STEP, wait=network.wait if config.record.breakdown else None)
    test_rows = shard(len(dataset.test), comm.rank, comm.size)
    meter = Joules() if comm.local_rank == 0 else None
    return Parts(config, comm, record, dataset, rows, test_rows, augment, network, selector,
                 ORDERS[config.data.order], updates, boundary, laps, meter, wanted)


def selector_of(config, dataset, network, comm):
    """The selector of a run before its first epoch: labels, and the rows of the files that
    its policies work with."""
    owned = shard(len(dataset.train), comm.rank, comm.size)
    labels = dataset.train.labels_of(owned) if network.classes else None
    given = given_rows(config, dataset, (comm.rank, comm.size))
    scores = Scores(owned, len(dataset.train), network.score, labels, network.classes, given)
    return Selector(stretches_of(config, dataset), scores, config.seed, comm)


def _try_out(config, dataset, network, scores, comm, augment):
    """Run what the user brings on this rank's own rows, as in its smallest step, so that what does not fit is
    known before the run."""
    train, owned, ranks = config.train, np.asarray(scores.owned), comm.size
    wanted = global_batch(config, ranks)
    first = batch_size(train, wanted, 0)
    steps = config.data.order, scores.total, comm.rank, ranks, first
    part = smallest_part(*steps, config.micro_batch)
    if part < smallest_part(*steps):
        key, value = "pass.micro.samples", config.micro_batch
    else:
        name = "ramp_batch" if first < wanted else "global_batch" if train.global_batch else "batch"
        key, value = f"train.{name}", getattr(train, name)
    batch = f"{key}: got {value} for {ranks} rank{'s' * (ranks > 1)} and {scores.total} samples"
    network.try_out(dataset.train, owned[:2])
    if ":" in network.score.name:
        Scores(range(2), 2, network.score).update(np.arange(2),
                                                  network.infer(dataset.train, np.resize(owned, 2), 2)[0])
    rows = dataset.train, np.resize(owned, max(2, part)), part
    try_training(network, *rows, batch, augment)
    network.compile(train.compile)
    if train.compile:
        try_compiled(network, *rows, train.compile, augment)
