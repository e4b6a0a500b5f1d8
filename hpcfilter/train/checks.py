"""What a run config asks for, against its data set and the number of ranks: `train` refuses by this list, and
so does `jobs check`, on a login node.

No row is read and no model made. What comes with hpcfilter needs no torch for it; code of the user's own is
imported, as it would be in the run.
"""

import math
import re
from contextlib import contextmanager
from pathlib import Path

from hpcfilter.base.errors import InputError
from hpcfilter.base.own import imported
from hpcfilter.base.registry import choose
from hpcfilter.base.shard import shard
from hpcfilter.data import augmentation, read_given
from hpcfilter.select.policies import check_score, facts_of, find_policy, given_file, policy_function
from hpcfilter.select.scores import make_score
from hpcfilter.select.selector import Stretch
from hpcfilter.train.exchange import exchange_of
from hpcfilter.train.models import check_model, find_model
from hpcfilter.train.passes import passes_of

LOSSES = "cross_entropy", "mse", "reconstruction"
# The keys of [optim] that an optimiser has not, of those optimisers that are known without torch
UNUSED = {"sgd": ("trust",), "lars": ("options",), "lamb": ("momentum", "trust", "options")}


def check_run(config, dataset, ranks, elsewhere=None):
    """Raise InputError for what `train` refuses and can be known beforehand.

    config: config.Config. dataset: data.Dataset, or None when it cannot be looked at from here: what depends
    on it is then taken to fit. elsewhere: of a check that is made on another machine than the run: function
    of the exception of an import that fails here, whether it may succeed there. Returns what was not checked
    for that reason: key of the config -> reason.
    """
    left = {}
    for key, check in CHECKS:
        try:
            check(config, dataset, ranks)
        except (InputError, ImportError) as error:
            reason = error if isinstance(error, ImportError) else error.__context__
            if elsewhere is None or not elsewhere(reason):
                raise
            left[key] = " ".join(str(reason).split())
    return left


def _check_ranks(config, dataset, ranks):
    if dataset:
        dataset.check_ranks(ranks)


def _check_augmentation(config, dataset, ranks):
    augmentation(config.data, dataset)


def _check_model(config, dataset, ranks):
    model = config.model
    check_model(model.name, model.factory, model.model_extra,
                *(shapes_of(config, dataset) if dataset else ()))


def _check_loss(config, dataset, ranks):
    name = loss_name(config.loss, classes_of(config, dataset))
    if ":" in name:
        imported(name, "loss.name")
    elif dataset and not dataset.labelled and name != "reconstruction":
        raise InputError(f'loss.name: got "{config.loss.name}", but {dataset.path} has rows without targets; '
                         'expected "reconstruction" with a '
                         "model such as autoencoder, or a data set that is packed with its labels")
    elif name == "mse" and classes_of(config, dataset) > 1:
        raise InputError(f'loss.name: got "mse", which is of numbers, but {dataset.path} has '
                         f'{len(dataset.classes)} classes; expected "cross_entropy"')
    elif dataset and not config.model.factory:
        _check_values(name, config, dataset)
    if config.loss.label_smoothing and name != "cross_entropy":
        raise InputError("loss.label_smoothing: is of the loss cross_entropy; this run has another one")


def _check_values(loss, config, dataset):
    """Whether one of our models gives as many values per sample as one of our losses takes."""
    inputs, outputs = shapes_of(config, dataset)
    made = math.prod(inputs) if hasattr(find_model(config.model.name, None), "makes_samples") else outputs
    wanted = math.prod(inputs) if loss == "reconstruction" else outputs
    if made != wanted:
        raise InputError(f"loss.name: {loss} takes {wanted} values per sample, "
                         f"and the model {config.model.name} gives {made}; "
                         "the loss reconstruction and the model autoencoder go together")


def _check_policy(config, dataset, ranks):
    for number, stretch in enumerate(stretches_of(config, dataset)):
        with in_phase(config, number):
            given_file(stretch.policy, stretch.parameters)


def _check_score(config, dataset, ranks):
    score = score_of(config, dataset)
    if score.needs_passes:
        raise InputError(f"score.name: {score.name} is taken of a finished network, by `hpcfilter score`, "
                         "not while it trains")
    for number, stretch in enumerate(stretches_of(config, dataset)):
        with in_phase(config, number):
            check_score(stretch.policy, stretch.parameters, stretch.select.keywords, score,
                        before=stretch.begin)


def _check_phases(config, dataset, ranks):
    if (first := config.all_phases()[0].weights) not in ("kept", "fresh"):
        raise InputError(f'phase.0.weights: got {first}, which would be ignored: the first phase begins with '
                         f'the weights of the run; expected [model] start = "{first}"')


def _check_steps(config, dataset, ranks):
    train, batch = config.train, global_batch(config, ranks)
    if train.ramp_batch and train.ramp_batch > batch:
        raise InputError(f"train.ramp_batch: got {train.ramp_batch}, more than the global batch of {batch} "
                         "that it is to grow to")
    if config.record.noise_scale and ranks == 1:
        raise InputError("record.noise_scale: is measured between ranks, and needs two or more")


def _check_optimizer(config, dataset, ranks):
    if (name := config.optim.name) in UNUSED:
        idle = dict.fromkeys(UNUSED[name], f"the optimiser {name} has none")
    else:
        from hpcfilter.train.optim import unused  # needs torch

        idle = unused(config.optim)
    config.refuse({f"optim.{key}": why for key, why in idle.items()})


def _check_exchange(config, dataset, ranks):
    exchange_of(config.exchange)


def _check_passes(config, dataset, ranks):
    passes_of(config.passes)


CHECKS = (  # key of the config that may name code of the user's own -> its check
          ("data.path", _check_ranks), ("data.augment", _check_augmentation), ("model.factory", _check_model),
          ("loss.name", _check_loss), ("phase", _check_phases), ("filter.policy", _check_policy),
          ("score.name", _check_score), ("train.batch", _check_steps), ("optim.name", _check_optimizer),
          ("exchange.kind", _check_exchange), ("pass", _check_passes))


def classes_of(config, dataset):
    """How many classes the targets are of, 0 when they are none: a reconstruction has the sample itself for
    its target. dataset: None for some."""
    return 0 if config.loss.name == "reconstruction" else len(dataset.classes) if dataset else 1


def shapes_of(config, dataset):
    """(the shape of a sample as the model sees it, the number of its outputs)."""
    shape, classes = dataset.train.images.shape[1:], classes_of(config, dataset)
    inputs = {"HW": (1, *shape), "HWC": (*shape[-1:], *shape[:-1])}.get(dataset.layout, tuple(shape))
    return inputs, classes or math.prod(dataset.train.labels.shape[1:])


def global_batch(config, ranks):
    """Samples per step over all ranks."""
    return config.train.global_batch or config.train.batch * ranks


def fixed(config, ranks):
    """The settings that a resumed run must share with its beginning, flat: "table.key" -> value."""
    return {**config.fixed(), "train.global_batch": global_batch(config, ranks)}


def loss_name(loss, classes):
    """One of LOSSES, or package.module:factory. Raises InputError."""
    name = loss.name if loss.name != "auto" else "cross_entropy" if classes else "mse"
    if ":" not in name:
        choose(dict.fromkeys(LOSSES), name, "loss.name")
    if name == "cross_entropy" and not classes:
        raise InputError("loss.name: cross_entropy needs class labels; give mse or package.module:factory")
    return name


def stretches_of(config, dataset):
    """The policies of a run config, one Stretch for each phase. Raises InputError."""
    classes, target, found = classes_of(config, dataset), _target(dataset), []
    for number, phase in enumerate(config.all_phases()):
        table, begin = (phase.filter or config.filter,
                        sum(before.epochs for before in config.all_phases()[:number]))
        with in_phase(config, number):
            select, values = policy_function(table.policy, table.model_extra, classes, classes, target,
                                             epochs=phase.epochs)
        for key, value in values.items():
            # as data.path is: the run folder's config must mean the same file from anywhere
            if isinstance(value, Path):
                values[key] = value.absolute()
                table.model_extra[key] = str(values[key])
        with in_phase(config, number):
            reads = given_file(table.policy, values)[0] is not None
        found.append(Stretch(begin, table.policy, select, values, reads))
    return found


@contextmanager
def in_phase(config, number):
    """What names a key of [filter] in an error names that of the phase, where the phase has
    a filter of its own."""
    try:
        yield
    except InputError as error:
        if not config.all_phases()[number].filter:
            raise
        raise type(error)(re.sub(r"^filter\.", f"phase.{number}.filter.", str(error))) from error


def score_of(config, dataset):
    """The score of a run config, a scores.Score. Raises InputError."""
    tables = [phase.filter or config.filter for phase in config.all_phases()]
    ranked = sorted({score for table in tables if (score := facts_of(find_policy(table.policy)).score)})
    if len(ranked) > 1 and config.score.name == "auto":
        raise InputError(f"score.name: the policies of the phases rank by {' and '.join(ranked)}; "
                         "give the one that all are to use")
    default = ranked[0] if ranked else "loss"
    return make_score(config.score.name, config.score.model_extra, classes_of(config, dataset),
                      _target(dataset), default)


def given_rows(config, dataset, part=None):
    """The rows of the files that the policies work with, if they do: name -> array (n,). Raises InputError.

    part: (rank, ranks), for the rows that a rank owns; they check the whole file together. None for no row
    and no check but of what the file says.
    """
    total, given, files = len(dataset.train), {}, {}
    for stretch in stretches_of(config, dataset):
        path, columns = given_file(stretch.policy, stretch.parameters)
        for name in columns if path is not None else ():
            if files.setdefault(name, path) != path:
                raise InputError(f"filter.policy: the phases read the column {name} of {files[name]} and of "
                                 f"{path}; expected one file")
        if path is not None and part is None:
            given |= read_given(path, columns, range(0), total, dataset.digest, blocks=())
        elif path is not None:
            given |= read_given(path, columns, shard(total, *part), total, dataset.digest, part)
    return given


def _target(dataset):
    """What the data set has for its targets, for errors."""
    return f"{dataset.path} with {dataset.target}" if dataset else ""
