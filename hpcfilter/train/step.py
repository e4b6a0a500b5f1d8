"""One training step: samples become gradients, gradients of all ranks meet, weights move, and
what was seen is noted."""

import torch

from hpcfilter.base.alive import faults
from hpcfilter.base.alive.pulse import beat
from hpcfilter.base.errors import BrokenInvariant
from hpcfilter.base.own import code
from hpcfilter.base.randomness import seed_of
from hpcfilter.train.network import sent
from hpcfilter.train.optim import set_rate


class Step:
    """What a pass needs of a step, on this rank.

    network: train.network.Network. rate: learning rate, of which each parameter group gets its part. seed: of
    what is drawn in the step.
    """

    def __init__(self, network, exchange, rate, seed, see, lap):
        """see: function of (name -> tensor (b,)) that takes what was observed. lap: record.clock.Laps."""
        self.network, self.rate, self.seed = network, rate, seed
        self._exchange, self._see, self._lap = exchange, see, lap

    def losses(self, x, y):
        """Forward pass of which nothing is noted. Returns losses (b,), one per sample."""
        return self.network.forward(x, y)[1]

    def forward(self, x, y):
        """Forward pass whose observations count for the samples. Returns losses (b,)."""
        output, losses = self.network.forward(x, y)
        self._see({**self.network.measure(output, y, losses), "loss": losses})
        self._lap("forward")
        return losses

    def backward(self, loss, last):
        """Backward pass of a part of the loss, tensor (); the last one begins the exchange."""
        self._exchange.backward(loss, self.network.model, last)
        self._lap("backward")


def train_step(parts, progress, batch, rows):
    """Train one batch. All ranks must call, also with a batch that is empty on this rank.

    batch: select.order.Batch of this rank. rows: its (inputs, targets), numpy or tensors.
    """
    network, updates, lap = parts.network, parts.updates, parts.laps
    seed = seed_of(parts.config.seed, progress.epoch, f"dropout {progress.step}", parts.comm.rank)
    lap("input")
    faults.point("before_step")
    set_rate(updates.optimizer, progress.rate, updates.ratios)
    network.seed(seed)
    updates.optimizer.zero_grad()
    if len(batch.index):  # a rank without samples still takes part in the exchange
        seen = _InParts(progress, batch)
        updates.passes(Step(network, updates.exchange, progress.rate, seed, seen, lap),
                       [_weighted(network, updates.exchange, batch, rows)])
    updates.exchange.finish(updates.optimizer)
    lap("communication")
    if updates.noise:
        updates.noise.step()
    if most := parts.config.optim.clip_norm:  # Pascanu et al., arXiv 1211.5063, algorithm 1
        torch.nn.utils.clip_grad_norm_(network.model.parameters(), most)
    with code("optim.name: its step fails", ":" in parts.config.optim.name):
        updates.exchange.step(updates.optimizer)
    lap("optimiser")
    faults.point("weights", network.model.parameters())
    faults.point("after_step")
    progress.step += 1
    beat()


def _weighted(network, exchange, batch, rows):
    """A batch on the device: (x, y, weight), whose sum of weight * loss is this rank's part of the loss."""
    x, y = network.tensors(*rows)
    faults.point("samples", x)
    return x, y, sent(batch.weight, network.device) / exchange.divisor(batch)


class _InParts:
    """Takes the observations of a batch that goes forward in parts, in their order."""

    def __init__(self, progress, batch):
        self._progress, self._batch, self._done = progress, batch, 0

    def __call__(self, columns):
        here = self._batch.index[self._done : self._done + len(columns["loss"])]
        if len(here) != len(columns["loss"]):
            raise BrokenInvariant("pass: has observed more samples than the step has; "
                                  "a second look at a sample is step.losses")
        self._done += len(here)
        self._progress.seen.add(here, self._progress.step, columns)
