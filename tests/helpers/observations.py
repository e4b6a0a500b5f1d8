"""Invented observations of samples for the tests of policies, and what a policy, with guards or
without, selects from them."""

import numpy as np

from hpcfilter.base.shard import edges
from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run
from hpcfilter.select.policies.guards import guarded
from hpcfilter.select.policies.none import none
from hpcfilter.select.scores import Scores

N = 1000


def observed(n=N, seed=0):
    """Plausible observations of n samples, with ties and a few that were never made."""
    rng = np.random.default_rng(seed)
    importance = np.round(rng.exponential(size=n), 2).astype(np.float32)
    importance[rng.random(n) < 0.05] = np.nan
    return {"importance": importance, "confidence": rng.random(n).astype(np.float32),
            "correct": rng.random(n) < 0.8, "labels": rng.integers(0, 5, n)}


def scores_of(columns, owned=None, total=None, given=None):
    """Scores of a rank that owns `owned`, default all."""
    total = total or len(columns["importance"])
    owned = owned or range(total)
    own = slice(owned.start, owned.stop)
    labels = columns.get("labels")
    scores = Scores(owned, total, labels=None if labels is None else labels[own],
                    classes=0 if labels is None else int(labels.max()) + 1,
                    given={name: np.asarray(values)[own] for name, values in (given or {}).items()})
    for name, values in columns.items():
        if name != "labels":
            setattr(scores, name, values[own].copy())
    return scores


def select(policy, columns=None, epoch=1, seed=3, given=None, **parameters):
    """The selection of one rank that owns all."""
    return policy(scores_of(columns or observed(), given=given), epoch, seed, SerialComm(), **parameters)


def guard(policy=none, columns=None, epoch=5, given=None, parameters=None, **guards):
    """The selection of one rank that owns all, with guards around the policy."""
    return select(lambda *arguments: guarded(lambda *a: policy(*a, **(parameters or {})), *arguments,
                                             **guards), columns, epoch, given=given)


def selections(policy, columns, ranks, epoch=1, seed=3, given=None, **parameters):
    """The selection of each rank."""
    cuts = edges(len(columns["importance"]), ranks)

    def play(comm):
        owned = range(int(cuts[comm.rank]), int(cuts[comm.rank + 1]))
        return policy(scores_of(columns, owned, int(cuts[-1]), given), epoch, seed, comm, **parameters)

    return run(ranks, play)
