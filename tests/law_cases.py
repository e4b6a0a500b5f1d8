"""What the laws are played on: the cases, each a policy with its parameters, and a whole run of one on simulated ranks.

The filter is the real one; the network is a table, a function of (index, epoch), so what it shows does not depend on the number of ranks, and nothing
else may.
"""

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from hpcfilter.base.randomness import hash64, uniform
from hpcfilter.comm.threads import run
from hpcfilter.filter import Filter

ORDERS = ("global", "shard")
N, CLASSES, EPOCHS, SEED, GLOBAL_BATCH = 203, 6, 5, 11, 48
LABELS = np.where(np.arange(N) % 17 == 0, 5, np.arange(N) % 4)  # class 4 is empty, class 5 is rare
GIVEN = {"static": {"keep": np.arange(N) % 3 > 0, "weight": (1 + np.arange(N) % 2).astype(np.float32)},
         "rho": {"loss": np.linspace(0, 2, N, dtype=np.float32)}}
WINDOW = {"name": "dyn_unc", "window": 2}

# case -> (policy, its parameters). One row per policy, and some with everything switched on.
CASES = {
    "none": {}, "random": {"fraction": 0.3}, "static": {}, "two_sided": {"low": 0.2, "high": 0.2, "warmup": 1, "patience": 2},
    "kakurenbo": {"fraction": 0.4, "tau": 0.3}, "infobatch": {}, "seta": {"groups": 4, "window": 0.5}, "bls": {}, "selective_backprop": {},
    "forget": {"after": 2}, "ccs": {"after": 2, "strata": 7}, "rho": {"fraction": 0.5}, "es": {}, "dyn_unc": {"after": 3, "score": WINDOW},
}
CASES = {name: (name, parameters) for name, parameters in CASES.items()} | {
    "static cut": ("static", {"fraction": 0.4, "score": "el2n"}),
    "random walk": ("random", {"fraction": 0.6, "replacement": False}),
    "bls over seta": ("bls", {"base": "seta", "r": 0.1, "window": 0.8}),
    "ccs by class": ("ccs", {"after": 1, "strata": 4, "per_class": True, "fraction": 0.7}),
    "selective_backprop reweighted": ("selective_backprop", {"reweight": True, "least": 0.2}),
    "kakurenbo guarded": ("kakurenbo", {"per_class": True, "noise": 0.2, "noise_warmup": 1, "noise_patience": 2, "class_floor": 0.7,
                                        "refresh": "near", "lr": "kept"}),
    "forget guarded": ("forget", {"after": 2, "noise": 0.1, "noise_warmup": 0, "noise_patience": 1, "class_floor": 0.7, "refresh": "all",
                                  "lr": "effective"}),
    "infobatch guarded": ("infobatch", {"noise": 0.2, "noise_warmup": 1, "noise_patience": 1, "class_floor": 0.5,
                                        "refresh": "slice", "lr": "effective"}),
}
# what makes a policy no filter at all
NOTHING = {
    "none": {}, "random": {"fraction": 0.0}, "static": {"fraction": 0.0}, "two_sided": {"low": 0.0, "high": 0.0}, "kakurenbo": {"fraction": 0.0},
    "infobatch": {"r": 0.0}, "seta": {"r": 0.0, "window": 1.0}, "bls": {"r": 0.0}, "selective_backprop": {"beta": 0.0},
    "forget": {"fraction": 0.0, "after": 1},
    "ccs": {"fraction": 0.0, "after": 1}, "rho": {"fraction": 0.0}, "es": {"fraction": 0.0}, "dyn_unc": {"fraction": 0.0, "after": 1},
}
# what makes a policy hide as much as it can
STRONGEST = {
    "none": {}, "random": {"fraction": 0.999}, "static": {"given": {"keep": np.arange(N) == 150, "weight": np.ones(N, np.float32)}},
    "two_sided": {"low": 0.7, "high": 0.29}, "kakurenbo": {"fraction": 0.999, "tau": 0.0}, "infobatch": {"r": 0.999},
    "seta": {"r": 0.99, "window": 0.01}, "bls": {"r": 0.999}, "selective_backprop": {"beta": 1e6},
    "forget": {"fraction": 0.999}, "ccs": {"fraction": 0.999}, "rho": {"fraction": 0.999},
    "es": {"fraction": 0.999, "ends": 0.0}, "dyn_unc": {"fraction": 0.999},
}
# policy -> (the parameter that makes it hide more, rising values, the first epoch whose selection they change)
MORE = {
    "random": ("fraction", (0.1, 0.4, 0.8), 0), "static cut": ("fraction", (0.1, 0.4, 0.8), 1), "two_sided": ("low", (0.1, 0.4, 0.7), 1),
    "kakurenbo": ("fraction", (0.1, 0.4, 0.8), 1), "infobatch": ("r", (0.1, 0.5, 0.9), 1), "seta": ("r", (0.1, 0.5, 0.9), 1),
    "bls": ("r", (0.1, 0.5, 0.9), 1), "selective_backprop": ("beta", (0.2, 1.0, 4.0), 1), "forget": ("fraction", (0.1, 0.4, 0.8), 2),
    "rho": ("fraction", (0.1, 0.4, 0.8), 1), "es": ("fraction", (0.1, 0.4, 0.8), 1), "dyn_unc": ("fraction", (0.1, 0.4, 0.8), 3),
}
DRAWS = {"random", "infobatch", "seta", "bls", "selective_backprop", "ccs", "es"}  # policies that depend on the seed


@functools.lru_cache
def network(epoch):
    """What a network that learns would make of all samples: losses (N,), logits (N, C), labels (N,)."""
    u = uniform(0, epoch, np.arange(N), CLASSES, "network")
    logits = 4 * (u + 0.15 * epoch * (LABELS[:, None] == np.arange(CLASSES)) * (hash64(0, 0, np.arange(N), "hard") % 3 > 0)[:, None])
    logits, labels = torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(LABELS)
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none"), logits, labels


class Epoch(NamedTuple):
    """What one rank did in an epoch."""

    keep: np.ndarray  # of its own samples
    weight: np.ndarray
    refresh: np.ndarray
    lr_scale: float
    began: int
    trained: np.ndarray  # indices, in order
    losses: list  # per batch: (loss that goes backward, samples)


class Data:
    """A data set of the indices themselves."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        return -index


def make(comm, case, order, **changes):
    policy, parameters = CASES[case]
    given = None if case == "static cut" else GIVEN.get(policy)
    return Filter(N, policy, comm=comm, order=order, **{"seed": SEED, "epochs": EPOCHS, "labels": LABELS, "given": given, **parameters, **changes})


class History(list):
    """The epochs of one rank; `state`: of the filter at the end, on rank 0."""

    state = None


def train(sampler, stop=None):
    """Train one rank to the end, with a DataLoader. stop: (epoch, batch) at which to leave, batch None = once it is over. Returns a History."""
    history, batch = History(), max(1, GLOBAL_BATCH // sampler.comm.size)
    for epoch in range(sampler.first_epoch, EPOCHS):
        sampler.set_epoch(epoch)
        trained, losses, table = [], [], network(epoch)
        for number, (index, value) in enumerate(DataLoader(sampler.indexed(Data()), batch_size=batch, sampler=sampler)):
            if stop == (epoch, number):
                break
            assert torch.equal(value, -index)
            own, logits, labels = (part[index] for part in table)
            losses.append((float(sampler.loss(own, index, logits, labels)), len(index)))
            trained.append(index.numpy())
        if stop and stop[0] == epoch and stop[1] is not None:
            break
        selection = sampler.selection
        if hidden := sampler.hidden.tolist():
            own, logits, labels = (part[hidden] for part in table)
            sampler.observe(own, hidden, logits, labels)
        history.append(Epoch(selection.keep, selection.weight, selection.refresh, selection.lr_scale, selection.began,
                             np.concatenate([np.zeros(0, np.int64), *trained]), losses))
        if stop == (epoch, None):
            break
    history.state = sampler.state_dict()
    return history


@functools.cache
def play(case, order, ranks, **changes):
    """A whole run: per rank a list of Epoch."""
    return run(ranks, lambda comm: train(make(comm, case, order, **changes)))


def joined(results, epoch, field):
    return np.concatenate([getattr(history[epoch], field) for history in results])
