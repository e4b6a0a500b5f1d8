"""What a training step and an epoch take on more ranks than were measured, with and without a filter."""

from dataclasses import dataclass

import numpy as np

from hpcfilter.study.predict.allreduce import tree

# of one threshold: its allreduces, and the bytes of each (benchmarks selection, growth)
ROUNDS, ROUND_BYTES = 6, 7_000


@dataclass(frozen=True)
class Step:
    """One step of one rank, measured: seconds of each part. Communication is what the model adds."""

    forward: float
    backward: float
    rest: float = 0.0  # input wait, optimiser, bookkeeping
    # exposed communication that was measured on few ranks: agreement, waiting for each other
    fixed: float = 0.0
    # share of the backward pass behind which the allreduce of the gradients can hide; assumed
    overlap: float = 0.9

    @property
    def alone(self):
        """Seconds without any communication."""
        return self.forward + self.backward + self.rest

    def exposed(self, allreduce):
        """Seconds of communication that the backward pass does not hide. allreduce: seconds
        of the gradients' sum."""
        return self.fixed + np.maximum(0.0, np.asarray(allreduce) - self.overlap * self.backward)

    def seconds(self, allreduce):
        """Seconds with an allreduce of so many seconds."""
        return self.alone + self.exposed(allreduce)

    def efficiency(self, allreduce):
        """Weak scaling: the step alone over the step with communication."""
        return self.alone / self.seconds(allreduce)


def epoch_seconds(samples, hidden_share, global_batch, step, allreduce, more=0.0):
    """Seconds of an epoch in which a share of the samples is hidden. The steps shrink with what is kept,
    and the traffic with them.

    The last step of an epoch is as much shorter as it has fewer samples, but communicates like any other.
    samples: N. hidden_share: F in [0, 1). global_batch: samples per step. step: Step of a full batch.
    allreduce: seconds of a step. more: seconds of an epoch.
    """
    kept = np.ceil((1 - np.asarray(hidden_share)) * samples)
    return kept / global_batch * step.alone + np.ceil(kept / global_batch) * step.exposed(allreduce) + more


def selection_seconds(ranks, link):
    """Seconds of communication that a filter adds to an epoch: one threshold, and an all-to-all that
    brings observations home.

    Of the all-to-all only its messages count, two to every other rank; what it carries is a
    few bytes per sample.
    """
    return ROUNDS * tree(ROUND_BYTES, ranks, link) + 2 * (ranks - 1) * link.latency
