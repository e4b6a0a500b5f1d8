"""What a policy's selection sends, counted on simulated ranks."""

import inspect

import numpy as np

from hpcfilter.base.randomness import uniform
from hpcfilter.base.shard import shard
from hpcfilter.comm.threads import run
from hpcfilter.select.policies import POLICIES, facts_of
from hpcfilter.select.scores import SCORES, Scores

SAMPLES, CLASSES, RANKS, EPOCH, EPOCHS = 100_000, 10, 2, 5, 10
GIVEN = {"static": {"keep": bool, "weight": np.float32}, "rho": {"loss": np.float32}}


def bytes_sent(name):
    """Bytes that rank 0 sends for a selection: with invented losses, at the policy's defaults."""
    return run(RANKS, lambda comm: _select(name, comm))[0]


def _select(name, comm):
    policy, owned = POLICIES[name], shard(SAMPLES, comm.rank, comm.size)
    index = np.asarray(owned)
    u = uniform(0, 0, index, 4, "what a selection sends")
    score = facts_of(policy).score
    given = {column: (u[:, 3] * 2).astype(kind) for column, kind in GIVEN.get(name, {}).items()}
    scores = Scores(owned, SAMPLES, SCORES[score or "loss"](), index % CLASSES, CLASSES, given)
    scores.importance[:], scores.confidence[:], scores.correct[:] = (
        -np.log1p(-u[:, 0]),
        u[:, 1],
        u[:, 2] < 0.9,
    )
    scores.seen[:], scores.fresh[:] = EPOCH, True
    before = comm.sent
    more = {"epochs": EPOCHS} if "epochs" in inspect.signature(policy).parameters else {}
    policy(scores, EPOCH, 0, comm, **more)
    return comm.sent - before
