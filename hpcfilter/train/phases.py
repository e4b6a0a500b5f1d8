"""Phases: stretches of epochs, each with weights, trained parameters and a filter of its own."""

from hpcfilter.base.errors import InputError
from hpcfilter.train.schema import OWN_WEIGHTS
from hpcfilter.train.start import check_start, start_from


def phase_of(config, epoch):
    """The phase that an epoch belongs to: (its number, its first epoch)."""
    first = 0
    for number, phase in enumerate(config.all_phases()):
        if epoch < first + phase.epochs:
            return number, first
        first += phase.epochs
    return number, first - phase.epochs


def weights_began(config, epoch):
    """The epoch at which the weights of an epoch began, and with them the learning-rate schedule: it runs
    from there to the end of the run."""
    number, first = phase_of(config, epoch)
    phases = config.all_phases()
    while number and phases[number].weights == "kept":
        number -= 1
        first -= phases[number].epochs
    return first


def check_phases(updates, config):
    """Raise InputError for a phase whose parameters are not there, and leave those of the first phase
    trained."""
    for number, phase in enumerate(config.all_phases()):
        try:
            updates.select(phase.train)
        except InputError as error:
            raise InputError(f"phase.{number}.train: {error}") from None
    updates.select(config.all_phases()[0].train)


def check_weights_to_come(parts, progress):
    """Raise InputError on all ranks for weights that a phase which is still to begin could not take: better
    now than hours later."""
    first, begun = 0, progress.epoch + (progress.step > 0)
    for number, phase in enumerate(parts.config.all_phases()):
        if number and first >= begun and phase.weights not in OWN_WEIGHTS:
            check_start(parts, phase.weights, f"phase.{number}.weights")
        first += phase.epochs


def begin_phase(parts, progress):
    """At the first step of an epoch: if a phase begins with it, take its weights and train its
    parameters. All ranks must call."""
    epoch = progress.epoch
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
    if phase.weights != "kept":  # a head that the other run lacks begins anew, too
        network.begin_anew(parts.config.seed, epoch)
    if phase.weights not in OWN_WEIGHTS:
        progress.start = start_from(parts, phase.weights, f"phase.{number}.weights")
    updates.select(phase.train)
    updates.make()
    updates.connect()
    updates.exchange.broadcast(network.model)

