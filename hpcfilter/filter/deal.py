"""How the samples of an epoch are dealt to the ranks when a loader of the user's cuts them into
batches: equally many to each.

The batches of `select.order` know the global batch size; here only the user's loader does, and it may
prefetch, drop the last batch or stop in the middle.
"""

from dataclasses import dataclass

import numpy as np

from hpcfilter.base.randomness import Permutation
from hpcfilter.select.home import weights_of
from hpcfilter.select.kept import KeptSet
from hpcfilter.select.order import shard_plan


@dataclass
class Hand:
    """One rank's samples in the order of training; all ranks hold equally many."""

    index: np.ndarray  # int64 (m,)
    weight: np.ndarray  # float32 (m,), 0 for a stand-in
    real: np.ndarray  # bool (m,), False for a stand-in, which fills up the last row and is not observed
    stand_ins: int = 0  # in the last row, over all ranks
    first: int = 0  # samples of the epoch, of all ranks, that were trained before this was dealt

    @classmethod
    def empty(cls):
        """Nothing is left of the epoch."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, bool), first=1)

    def consumed(self, cursor, ranks):
        """Samples of the epoch, of all ranks, that are trained when each rank has trained
        `cursor` of its own."""
        return self.first + cursor * ranks - (self.stand_ins if cursor == len(self.index) else 0)


def deal_global(selection, scores, shards, comm, seed, epoch, consumed):
    """Deal the permutation of all kept samples like cards, from position `consumed` on: rank r gets position
    consumed + j * ranks + r.

    With b samples per rank and batch, batch t holds the same samples on any number of ranks of the same b *
    ranks. Each kept sample comes exactly once; when the last row is short, some ranks get a stand-in of
    weight 0, so that all take equally many steps. Returns Hand.
    """
    kept = KeptSet(selection.keep, comm)
    position = np.arange(consumed + comm.rank,
                         -(-(kept.count - consumed) // comm.size) * comm.size + consumed, comm.size)
    index = kept.select(Permutation(kept.count, seed, epoch)(position % kept.count))
    real = position < kept.count
    weight = np.where(real, weights_of(index, selection, shards, comm), np.float32(0))
    return Hand(index, weight, real, (consumed - kept.count) % comm.size, consumed)


def deal_shard(selection, scores, shards, comm, seed, epoch, consumed):
    """Every rank trains its own kept samples, those with fewer go round again (`shard_plan`); a rank that
    keeps none gets stand-ins. Returns Hand."""
    plan = shard_plan(selection, shards, comm, seed, epoch, comm.size)
    rows = len(plan.totals)
    real = np.full(rows, len(plan.index) > 0)
    index = plan.index if len(plan.index) else np.full(rows, scores.owned.start)
    weight = plan.weight if len(plan.index) else np.zeros(rows, np.float32)
    left = slice(consumed // comm.size, None)
    return Hand(index[left], weight[left], real[left], 0, consumed)


DEALS = {"global": deal_global, "shard": deal_shard}
