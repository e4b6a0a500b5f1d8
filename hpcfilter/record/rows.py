"""What stands in metrics.jsonl: the kinds of rows, their keys, and what each means. A test holds runs against
it.

One row a line, each a JSON object with its `kind`. NaN and infinity are null.
"""


class Run:
    """Where the run comes from. It opens a run and each resumption."""

    versions: dict  # of Python, hpcfilter, torch, numpy, h5py, mpi4py, Horovod
    commit: str | None  # of the code, where it lies in a repository
    config: str  # digest of the resolved run config, without [job]
    machine: str  # name of the host of rank 0
    system: str  # its operating system
    cores: int  # its cores
    ranks: int  # processes
    ranks_per_node: int  # of rank 0's node
    backend: str  # serial, mpi or torch
    started: str  # date and time
    data: str  # digest of the data set
    samples: int  # N, training samples
    global_batch: int  # samples per step over all ranks
    device: str  # of rank 0: cpu, cuda:0, xpu:0
    threads: int  # of torch on rank 0
    augment_on: str | None  # host or device: where pixels are moved; null without augmentation
    compile: bool | str  # the setting train.compile
    first_epoch: int  # that is trained by this part of the run
    first_step: int  # in that epoch
    engine: str  # what carries gradients: horovod, torch, or none of one process
    engine_why: str  # why it was chosen


class Epoch:
    """What was trained, what was hidden, and what the network can do. One for each epoch."""

    epoch: int  # from 0 on
    kept: int  # samples that train
    moved_back: int  # candidates for hiding that train after all
    refreshed: int  # hidden samples that got a forward pass at the end of the epoch
    nan: int  # losses that were not finite; their samples are kept
    hidden: int  # samples that do not train
    steps: int  # the same on every rank
    batch: float  # mean samples per step over all ranks
    threshold: float | None  # highest score that was a candidate for hiding
    train_loss: float | None  # mean over what was trained
    test_loss: float  # mean over the test split
    accuracy: float | None  # on the test split, from 0 to 1; null without classes
    worst_class: float | None  # accuracy of the class with the least
    lr: float  # learning rate of the last step
    imbalance: float  # most samples of a rank over their mean; 1 is even
    passes: float  # training passes so far, in data sets
    looks: float  # forward-only passes of training samples so far, in data sets
    selection: str  # digest of who trains; equal on any number of ranks
    batches: str  # digest of the batches; in global order equal on any number of ranks
    seconds: dict  # total, and train, select, rebalance, score, evaluate, checkpoint


class Scores:
    """How the importances of the samples are spread when the epoch begins. One for each epoch."""

    epoch: int  # from 0 on
    threshold: float | None  # as in the row of the epoch
    edges: list  # of the bins, from the least to the greatest importance
    counts: list  # samples in each bin
    hidden: list  # those of them that are hidden
    unknown: int  # samples whose importance is not known yet


class Speed:
    """What the steps of the epoch took and moved. One for each epoch."""

    epoch: int  # from 0 on
    steps: int  # of this part of the run
    # mean seconds of a step: input, forward, backward, communication (with the engine torch a part of
    # backward), optimiser
    parts: dict
    bytes: dict  # over all ranks: gradients, selection, observations; row: of one sample
    joules: float | None  # energy of all nodes, where it can be measured
    joules_of: str | None  # what was measured: node, or processors (without GPUs and memory)


class Noise:
    """The gradient noise scale, with record.noise_scale. One for each epoch."""

    epoch: int  # from 0 on
    batch: float  # mean samples per step over all ranks
    steps: int  # that were measured
    noise_scale: float | None  # samples: up to which batch more samples per step pay
    gradient: float | None  # squared length of the mean gradient
    variance: float | None  # of the gradients of single samples, summed over the weights


class Stop:
    """The run was told to leave, and has saved."""

    reason: str  # the signal, the deadline, or Ctrl-C
    epoch: int  # in which it left
    step: int  # steps done in it
    seconds: float  # since the run was begun or resumed
    core_seconds: float  # of all ranks' processors, since then
    checkpoints: dict  # saves, seconds of each, share of the time


class End:
    """The run is done."""

    exit: int  # 0
    test_loss: float  # of the last epoch
    accuracy: float | None  # of the last epoch
    worst_class: float | None  # of the last epoch
    passes: float  # training passes, in data sets
    looks: float  # forward-only passes, in data sets
    seconds: float  # since the run was begun or resumed
    core_seconds: float  # of all ranks' processors, since then
    weights: str  # digest of the weights
    checkpoints: dict  # saves, seconds of each, share of the time


ROWS = {
    "run": Run,
    "epoch": Epoch,
    "scores": Scores,
    "speed": Speed,
    "noise": Noise,
    "stop": Stop,
    "end": End,
}
