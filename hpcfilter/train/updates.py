"""How gradients move weights: the optimiser, the exchange and the passes, of the parameters that
are trained at the time."""

from fnmatch import fnmatchcase

from hpcfilter.base.errors import InputError
from hpcfilter.train.exchange import make_exchange
from hpcfilter.train.optim import (
    NoiseScale,
    batch_size,
    check_remade,
    learning_rate,
    make_optimizer,
    rate_ratios,
)
from hpcfilter.train.passes import make_passes


class Updates:
    """optimizer, exchange, passes, noise (None unless it is measured), ratios: what each parameter group
    gets of the learning rate.

    A phase that trains other parameters, or begins with other weights, has `make` called again.
    """

    def __init__(self, config, network, comm, engine, global_batch):
        self._config, self._network, self._comm, self._global_batch = config, network, comm, global_batch
        self._trainable = {name for name, parameter in network.model.named_parameters()
                           if parameter.requires_grad}
        self.exchange = make_exchange(config.exchange, comm, engine)
        self.optimizer = self.passes = self.noise = None
        self._connected = False

    def select(self, wanted):
        """Have the parameters trained that match. wanted: "all", or a glob of their names. Raises
        InputError when none does."""
        names = {name for name in self._trainable if wanted == "all" or fnmatchcase(name, wanted)}
        if not names:
            raise InputError(f"got '{wanted}', which no parameter matches; there are: "
                             f"{', '.join(sorted(self._trainable))}")
        for name, parameter in self._network.model.named_parameters():
            parameter.requires_grad_(name in names)

    def make(self):
        """The optimiser of what is trained, which remembers nothing, and all that hangs on it. Not
        yet across the ranks."""
        model = self._network.model
        self.optimizer = make_optimizer(model, self._config.optim)
        self._leave_alone()
        if self._comm.size > 1:
            check_remade(self.optimizer, model)
        self.ratios = rate_ratios(self.optimizer)  # before anything is loaded
        groups = zip(self.optimizer.param_groups, self.ratios, strict=True)
        of_parameter = {parameter: ratio for group, ratio in groups for parameter in group["params"]}
        self.passes = make_passes(self._config.passes, model, self.exchange, of_parameter)
        scale = self.exchange.scale_to_mean
        self.noise = NoiseScale(model, scale) if self._config.record.noise_scale else None

    def _leave_alone(self):
        """What the optimiser does not move gets no gradient: nobody would clear it, or add
        it up over the ranks."""
        moved = {id(part) for group in self.optimizer.param_groups for part in group["params"]}
        can = [part for part in self._network.model.parameters() if part.requires_grad]
        self.untrained = len(can), sum(id(part) not in moved for part in can)
        for part in can:
            part.requires_grad_(id(part) in moved)

    def connect(self):
        """Put the optimiser across the ranks: the engine may make a new one, without the state of the one it
        is given. All ranks must call."""
        self.optimizer = self.exchange.prepare(self._network.model, self.optimizer)
        self._connected = True

    def release(self):
        """Take everything off the model, for another `make`."""
        self.passes.release()
        if self.noise:
            self.noise.release()
        if self._connected:
            self.exchange.release(self.optimizer)
        self._connected = False
        self.optimizer.zero_grad()

    def batch(self, epoch):
        """Samples per step over all ranks. epoch: counted since the weights began."""
        return batch_size(self._config.train, self._global_batch, epoch)

    def rate(self, lr_scale, progress, epochs):
        """The learning rate after `progress` of `epochs` epochs since the weights began, a float that
        counts parts of an epoch.

        lr_scale: the policy's factor, which counts after the warm-up: that is the schedule's alone.
        """
        optim, schedule = self._config.optim, self._config.schedule
        batch = self.batch(int(progress)) / self.exchange.batches
        scale = lr_scale if progress >= schedule.warmup_epochs else 1.0
        return scale * learning_rate(optim, schedule, batch, progress, epochs)
