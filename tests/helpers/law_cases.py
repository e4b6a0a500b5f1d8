"""What the laws are played on: the cases, each a policy with its parameters, and a whole run
of one on simulated ranks.

The filter is the real one; the network is a table, a function of (index, epoch), so what it shows does not
depend on the number of ranks, and nothing else may.
"""

import functools
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from hpcfilter.base.randomness import hash64, uniform
from hpcfilter.comm.threads import run
from hpcfilter.filter import Filter
from hpcfilter.select.policies import POLICIES

ORDERS = ("global", "shard")
N, CLASSES, EPOCHS, SEED, GLOBAL_BATCH = 203, 6, 5, 11, 48
LABELS = np.where(np.arange(N) % 17 == 0, 5, np.arange(N) % 4)  # class 4 is empty, class 5 is rare


@dataclass(frozen=True)
class Case:
    """What the laws need to know of a policy.

    hides: parameters under which it hides some of the samples. nothing: those that make it no filter at all;
    None for a variant, whose policy has a row of its own. most: those that make it hide as much as it can.
    rising: (the parameter that makes it hide more, rising values), or None. draws: whether it depends on the
    seed. looks: epochs in which all samples train before it cuts. score: as `Filter` takes it. given: name ->
    (N,), what it reads from a file.
    """

    hides: dict
    nothing: dict | None
    most: dict
    rising: tuple | None = None
    draws: bool = False
    looks: int = 0
    score: str | dict = "auto"
    given: dict | None = None
    policy: str = ""

    @property
    def anew(self):
        """Whether the papers begin anew with what it leaves."""
        return POLICIES[self.policy].facts.anew


SHARES, ONE = (0.1, 0.4, 0.8), {"keep": np.arange(N) == 150, "weight": np.ones(N, np.float32)}
SUBSET = {"keep": np.arange(N) % 3 > 0, "weight": (1 + np.arange(N) % 2).astype(np.float32)}
CASES = {
    "none": Case(hides={}, nothing={}, most={}),
    "random": Case(hides={"fraction": 0.3}, nothing={"fraction": 0.0}, most={"fraction": 0.999},
                   rising=("fraction", SHARES), draws=True),
    "static": Case(hides={}, nothing={"fraction": 0.0}, most={"given": ONE}, given=SUBSET),
    "two_sided": Case(hides={"low": 0.2, "high": 0.2, "warmup": 1, "patience": 2},
                      nothing={"low": 0.0, "high": 0.0},
                      most={"low": 0.7, "high": 0.29}, rising=("low", (0.1, 0.4, 0.7))),
    "kakurenbo": Case(hides={"fraction": 0.4, "tau": 0.3}, nothing={"fraction": 0.0},
                      most={"fraction": 0.999, "tau": 0.0}, rising=("fraction", SHARES)),
    "infobatch": Case(hides={}, nothing={"r": 0.0}, most={"r": 0.999}, rising=("r", (0.1, 0.5, 0.9)),
                      draws=True),
    "seta": Case(hides={"groups": 4, "window": 0.5}, nothing={"r": 0.0, "window": 1.0},
                 most={"r": 0.99, "window": 0.01}, rising=("r", (0.1, 0.5, 0.9)), draws=True),
    "bls": Case(hides={}, nothing={"r": 0.0}, most={"r": 0.999}, rising=("r", (0.1, 0.5, 0.9)), draws=True),
    "selective_backprop": Case(hides={}, nothing={"beta": 0.0},
                               most={"beta": 1e6}, rising=("beta", (0.2, 1.0, 4.0)), draws=True),
    "forget": Case(hides={}, nothing={"fraction": 0.0}, most={"fraction": 0.999}, rising=("fraction", SHARES),
                   looks=2),
    "ccs": Case(hides={"strata": 7}, nothing={"fraction": 0.0}, most={"fraction": 0.999}, draws=True,
                looks=2),
    "rho": Case(hides={"fraction": 0.5}, nothing={"fraction": 0.0}, most={"fraction": 0.999},
                rising=("fraction", SHARES), given={"loss": np.linspace(0, 2, N, dtype=np.float32)}),
    "es": Case(hides={}, nothing={"fraction": 0.0},
               most={"fraction": 0.999, "ends": 0.0}, rising=("fraction", SHARES), draws=True),
    "dyn_unc": Case(hides={}, nothing={"fraction": 0.0}, most={"fraction": 0.999},
                    rising=("fraction", SHARES), looks=3, score={"name": "dyn_unc", "window": 2}),
}
CASES = {name: replace(case, policy=name) for name, case in CASES.items()}


def variant(policy, hides, **changes):
    """A policy with other parameters than in its own row."""
    return replace(CASES[policy], **{"hides": hides, "nothing": None, "rising": None, **changes})


CASES |= {
    "static cut": variant("static", {"fraction": 0.4}, score="el2n", rising=("fraction", SHARES), looks=1,
                          given=None),
    "random walk": variant("random", {"fraction": 0.6, "replacement": False}),
    "bls over seta": variant("bls", {"base": "seta", "r": 0.1, "window": 0.8}),
    "ccs by class": variant("ccs", {"strata": 4, "per_class": True, "fraction": 0.7}, looks=1),
    "selective_backprop reweighted": variant("selective_backprop", {"reweight": True, "least": 0.2}),
    "kakurenbo guarded": variant("kakurenbo",
                                 {"per_class": True, "noise": 0.2, "noise_warmup": 1, "noise_patience": 2,
                                  "class_floor": 0.7, "refresh": "near", "lr": "kept"}),
    "forget guarded": variant("forget", {"noise": 0.1, "noise_warmup": 0, "noise_patience": 1,
                                         "class_floor": 0.7, "refresh": "all", "lr": "effective"}),
    "infobatch guarded": variant("infobatch", {"noise": 0.2, "noise_warmup": 1, "noise_patience": 1,
                                               "class_floor": 0.5, "refresh": "slice", "lr": "effective"}),
}


@functools.lru_cache
def network(epoch):
    """What a network that learns would make of all samples: losses (N,), logits (N, C), labels (N,)."""
    u = uniform(0, epoch, np.arange(N), CLASSES, "network")
    logits = 4 * (u + 0.15 * epoch * (LABELS[:, None] == np.arange(CLASSES))
                  * (hash64(0, 0, np.arange(N), "hard") % 3 > 0)[:, None])
    logits, labels = torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(LABELS)
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none"), logits, labels


class Epoch(NamedTuple):
    """What one rank did in an epoch."""

    keep: np.ndarray  # of its own samples
    weight: np.ndarray
    refresh: np.ndarray
    lr_scale: float
    anew: bool  # whether the network begins anew
    trained: np.ndarray  # indices, in order
    losses: list  # per batch: (loss that goes backward, samples)


class Data:
    """A data set of the indices themselves."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        return -index


def make(comm, case, order, **changes):
    row = CASES[case]
    about = {"seed": SEED, "epochs": EPOCHS, "labels": LABELS, "given": row.given, "after": row.looks,
             "score": row.score}
    return Filter(N, row.policy, comm=comm, order=order, **{**about, **row.hides, **changes})


def make_nothing(comm, case, order):
    """The same policy as no filter at all."""
    row = CASES[case]
    given = row.given if case == "rho" else None  # which cannot do without
    return Filter(N, row.policy, comm=comm, order=order, seed=SEED, epochs=EPOCHS, labels=LABELS, given=given,
                  after=row.looks, **row.nothing)


class History(list):
    """The epochs of one rank; `state`: of the filter at the end, on rank 0."""

    state = None


def train(sampler, stop=None):
    """Train one rank to the end, with a DataLoader. stop: (epoch, batch) at which to leave, batch None = once
    it is over. Returns a History."""
    history, batch = History(), max(1, GLOBAL_BATCH // sampler.comm.size)
    for epoch in range(sampler.first_epoch, EPOCHS):
        sampler.set_epoch(epoch)
        trained, losses, table, anew = [], [], network(epoch), sampler.begins_anew
        for number, (index, value) in enumerate(DataLoader(sampler.indexed(Data()), batch_size=batch,
                                                           sampler=sampler)):
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
        history.append(Epoch(selection.keep, selection.weight, selection.refresh, selection.lr_scale, anew,
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
