"""What a user brings: a model, a loss and an augmentation of their own."""

import time

import numpy as np
import torch
from torch import nn

from hpcfilter.comm import placement
from hpcfilter.select.policies import Selection


def perceptron(inputs, outputs, *, hidden: int = 16):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs[0], hidden), nn.Tanh(), nn.Dropout(0.2),
                         nn.Linear(hidden, outputs))


def wrong_shape(inputs, outputs):
    return nn.Linear(inputs[0] + 1, outputs)


def fails_on_the_last_rank(inputs, outputs):
    """Raises on the last rank only, as a broken node does."""
    if placement().rank == placement().size - 1:
        raise KeyError("this node is broken")
    return perceptron(inputs, outputs)


class Hangs(nn.Module):
    """On the last rank the tenth training pass never ends."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.net, self.passes = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(inputs)), outputs)), 0

    def forward(self, x):
        self.passes += self.training
        while self.passes == 10 and placement().rank == placement().size - 1:
            time.sleep(0.01)
        return self.net(x)


def hangs_on_the_last_rank(inputs, outputs):
    return Hangs(inputs, outputs)


def pixels(inputs, outputs):
    """A segmentation model: one logit per pixel."""
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


def absolute():
    return lambda output, target: (output - target).abs().reshape(len(target), -1).mean(1)


def pixelwise():
    """Binary cross entropy, mean over the pixels of each sample."""
    bce = nn.BCEWithLogitsLoss(reduction="none")
    return lambda output, target: bce(output[:, 0], target).flatten(1).mean(1)


def mean_over_batch():
    return lambda output, target: ((output - target) ** 2).mean()


def mirrored(images, labels, index, seed, epoch):
    """Turn every second sample and its mask upside down."""
    odd = (index + epoch) % 2 == 1
    images[odd], labels[odd] = images[odd][:, ::-1], labels[odd][:, ::-1]
    return images, labels


def every_third(scores, epoch, seed, comm, *, offset: int = 0):
    """A policy of the user's own."""
    return Selection(np.asarray(scores.owned) % 3 == offset)


def named_like_a_guard(scores, epoch, seed, comm, *, noise: float = 0.1):
    """A policy whose parameter the guards have taken."""
    return Selection(np.ones(len(scores.owned), bool))


def adam(model, optim):
    import torch

    return torch.optim.Adam(model.parameters(), weight_decay=optim.weight_decay)


def two_rates(model, optim):
    """A trunk that is to move at a hundredth of the head's rate, as in fine-tuning."""
    import torch

    *trunk, weight, bias = model.parameters()
    return torch.optim.SGD([{"params": trunk, "lr": 0.001}, {"params": [weight, bias], "lr": 0.1}],
                           momentum=0.9)


class Remembers(nn.Module):
    """A network that makes a table at its first forward pass, as rotary embeddings do, and keeps it."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear, self.table = nn.Linear(64, outputs), None

    def forward(self, x):
        if self.table is None:
            self.table = torch.linspace(0.5, 1.0, 64)
        return self.linear(x.flatten(1) * self.table)


def remembers(inputs, outputs):
    return Remembers(inputs, outputs)


def of_the_last_layer(model, optim):
    """An optimiser of a part of the network."""
    return torch.optim.SGD(list(model.parameters())[-2:], lr=optim.lr, momentum=optim.momentum)


class Experts(nn.Module):
    """A network with a layer that is never used, one that only some samples use, and a buffer of int16."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear, self.never, self.rare = nn.Linear(64, outputs), nn.Linear(3, 3), nn.Linear(64, outputs)
        self.register_buffer("table", torch.arange(3, dtype=torch.int16))

    def forward(self, x):
        flat = x.flatten(1)
        bright = flat.mean(1) > 0.05
        return self.linear(flat) + (self.rare(flat) * bright[:, None] if bright.sum() > len(x) / 2 else 0)


def experts(inputs, outputs):
    return Experts(inputs, outputs)
