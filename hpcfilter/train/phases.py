"""Phases: stretches of epochs, each with weights, trained parameters and a filter of its own."""

from hpcfilter.base.errors import InputError, on_all
from hpcfilter.train.start import start_from


def phase_of(config, epoch):
    """The phase that an epoch belongs to: (its number, its first epoch)."""
    first = 0
    for number, phase in enumerate(config.all_phases()):
        if epoch < first + phase.epochs:
            return number, first
        first += phase.epochs
    return number, first - phase.epochs


def weights_began(config, epoch):
    """The epoch at which the weights of an epoch began, and with them the learning-rate schedule: it runs from there to the end of the run."""
    number, first = phase_of(config, epoch)
    phases = config.all_phases()
    while number and phases[number].weights == "kept":
        number -= 1
        first -= phases[number].epochs
    return first


def check_phases(updates, config):
    """Raise InputError for a phase whose parameters are not there, and leave those of the first phase trained."""
    for number, phase in reversed(list(enumerate(config.all_phases()))):
        try:
            updates.select(phase.train)
        except InputError as error:
            raise InputError(f"phase.{number}.train: {error}") from None


def begin_phase(parts, epoch):
    """At the first step of an epoch: if a phase begins with it, take its weights and train its parameters. All ranks must call."""
    number, first = phase_of(parts.config, epoch)
    if epoch != first or number == 0:
        return
    before, phase = parts.config.all_phases()[number - 1 : number + 1]
    if phase.weights == "kept" and phase.train == before.train:
        return
    network, updates = parts.network, parts.updates
    updates.release()
    if phase.weights == "fresh":
        parts.record.say(f"epoch {epoch:3d}  the network begins anew, on the samples that are kept")
        network.begin_anew(parts.config.seed, epoch)
    elif phase.weights != "kept":
        with in_phase(number):
            start_from(network, phase.weights, parts.comm, parts.record)
    updates.select(phase.train)
    updates.make()
    updates.connect()
    updates.exchange.broadcast(network.model)


class in_phase:
    """What goes wrong with the weights of a phase is said with its number."""

    def __init__(self, number):
        self._number = number

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, InputError):
            raise on_all(f"phase.{self._number}.weights: {error}") from None
