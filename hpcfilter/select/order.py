"""From a selection to the batches of an epoch.

Two orders. `global`: the epoch is one permutation of all kept samples, cut into global batches and then among
the ranks, so that the same samples meet in the same global batch on any number of ranks. `shard`: a rank
trains only what it owns, and ranks with fewer kept samples go round theirs again, at a weight that keeps the
gradient unbiased over the epochs. In both, all ranks take the same number of steps, and the batches of an
epoch differ by at most one sample: no rank is ever left with a tiny last batch.
"""

import zlib
from dataclasses import dataclass

import numpy as np

from hpcfilter.base.errors import BrokenInvariant, InputError
from hpcfilter.base.randomness import Permutation, digest
from hpcfilter.base.shard import begin, edges
from hpcfilter.base.spans import by_value
from hpcfilter.select.home import weights_of
from hpcfilter.select.kept import KeptSet


@dataclass
class Batch:
    """What one rank trains in one step."""

    index: np.ndarray  # int64 (b,), global sample indices, b may differ by rank and step
    weight: np.ndarray  # float32 (b,), factor of each sample's loss
    total: float  # samples in the global batch: the divisor of the global sum of losses


@dataclass
class Plan:
    """One rank's part of an epoch: `batches` gives a Batch per step, any number of times."""

    index: np.ndarray  # int64 (m,), this rank's samples in the order of training
    weight: np.ndarray  # float32 (m,)
    cuts: np.ndarray  # int64 (steps + 1,), where the batches begin and end in `index`
    totals: np.ndarray  # int64 (steps,), samples in each global batch
    imbalance: float  # kept samples of the fullest shard / mean of the shards

    @property
    def steps(self):
        return len(self.totals)

    def batches(self, first=0):
        """Yields the batches from step `first` on."""
        for step in range(first, self.steps):
            mine = slice(self.cuts[step], self.cuts[step + 1])
            yield Batch(self.index[mine], self.weight[mine], float(self.totals[step]))

    def trained(self, first, last):
        """Which samples this rank trains in the steps first to last - 1. Returns name -> int64 (m,): index,
        and the step of each."""
        steps = np.arange(first, last)
        return {"index": self.index[self.cuts[first] : self.cuts[last]],
                "step": np.repeat(steps, np.diff(self.cuts[first : last + 1]))}

    def digest(self, comm):
        """Hex digest of which samples meet in which global batch, the same on any number of
        ranks. All ranks must call."""
        whole = self.trained(0, self.steps)
        return hexdigest(comm.sum(digest(whole["index"], whole["step"] + 1)))


def hexdigest(lanes):
    """uint64 (2,) as 32 hex digits."""
    return "".join(f"{int(lane):016x}" for lane in lanes)


def selection_digest(selection, owned, comm):
    """Hex digest of the global set of kept samples. All ranks must call."""
    return hexdigest(comm.sum(digest(np.asarray(owned)[selection.keep])))


def table_digest(columns, owned, comm):
    """Hex digest of per-sample columns, name -> (n_local,), the same on any number of ranks; "" without
    any. All ranks must call."""
    lanes = np.zeros(2, np.uint64)
    for name in sorted(columns):
        bits = np.asarray(columns[name], np.float32).view(np.uint32)
        lanes += digest(np.asarray(owned), bits.astype(np.int64) + zlib.crc32(name.encode()) * 2**30)
    lanes = comm.sum(lanes)
    return hexdigest(lanes) if columns else ""


def global_plan(selection, shards, comm, seed, epoch, global_batch):
    """Plan an epoch over the kept samples of all ranks.

    selection: of this rank's own samples. shards: int64 (size + 1,), where the ranks' blocks of indices begin
    and end. global_batch: samples per step over all ranks, at most. Returns Plan. Memory: N/8 bytes for the
    kept set, and this rank's indices.
    """
    kept = KeptSet(selection.keep, comm)
    cuts = edges(kept.count, -(-kept.count // global_batch))
    totals = np.diff(cuts)
    # (steps,): where this rank's part of each global batch begins
    first = begin(totals, comm.size, comm.rank)
    lengths = begin(totals, comm.size, comm.rank + 1) - first
    own_cuts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    position = np.repeat(cuts[:-1] + first - own_cuts[:-1], lengths) + np.arange(own_cuts[-1])
    index = kept.select(Permutation(kept.count, seed, epoch)(position))
    weight = weights_of(index, selection, shards, comm)
    return Plan(index, weight, own_cuts, totals, _imbalance(selection, comm))


def shard_plan(selection, shards, comm, seed, epoch, global_batch):
    """Plan an epoch in which this rank trains only its own samples. Arguments and result as `global_plan`.

    All ranks train as many samples as the fullest one keeps; a rank of k kept samples out of K goes round
    them, each at the weight k * ranks / K, so that the rank counts for its share of the kept samples. In the
    last round some of its samples come once more than others, by a draw that is new in each epoch: every kept
    sample weighs the same in expectation. A rank without any has empty batches.
    """
    own = np.flatnonzero(selection.keep)
    most, kept = int(comm.max(len(own))), int(comm.sum(len(own)))
    per_rank = -(-global_batch // comm.size)
    cuts = edges(most, -(-most // per_rank))
    totals = np.diff(cuts) * comm.size
    if len(own) == 0:
        return Plan(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros_like(cuts), totals,
                    _imbalance(selection, comm))
    shuffled = own[Permutation(len(own), seed, epoch, f"shard {shards[comm.rank]}")(np.arange(len(own)))]
    chosen = np.resize(shuffled, most)
    weight = selection.weight[chosen] * np.float32(len(own) * comm.size / kept)
    return Plan(chosen + shards[comm.rank], weight, cuts, totals, _imbalance(selection, comm))


def smallest_part(order, samples, rank, size, global_batch, micro_batch=None):
    """How many samples of a rank go forward at once, at least, in an epoch in which all samples are kept.
    Steps without any do not count.

    micro_batch: most that go forward at once, or None. Returns int.
    """
    if order == "shard":
        fullest, per_rank = -(-samples // size), -(-global_batch // size)
        parts = np.diff(edges(fullest, -(-fullest // per_rank)))
    else:
        totals = np.diff(edges(samples, -(-samples // global_batch)))
        parts = begin(totals, size, rank + 1) - begin(totals, size, rank)
    parts = parts[parts > 0]
    if micro_batch:
        parts = parts // -(-parts // micro_batch)
    return int(parts.min(initial=global_batch))


ORDERS = {"global": global_plan, "shard": shard_plan}


def check_steps(plan, comm):
    """Raise on all ranks unless all plan the same steps, and some: uneven steps would hang the
    allreduce of the gradients."""
    steps = [int(part[0]) for part in comm.allgather(np.array([plan.steps], np.int64))]
    if len(set(steps)) > 1:
        raise BrokenInvariant("order: the ranks planned different numbers of steps: "
                              f"{by_value(dict(enumerate(steps)))}")
    with comm.together():
        if plan.steps == 0:
            raise InputError("filter: the policy keeps no sample in this epoch")


def _imbalance(selection, comm):
    own = int(np.count_nonzero(selection.keep))
    total = int(comm.sum(own))
    return float(int(comm.max(own)) * comm.size / total) if total else 1.0
