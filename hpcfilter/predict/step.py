"""What a training step and an epoch take on more ranks than were measured, with and without a filter."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Step:
    """One step of one rank, measured: seconds of each part. Communication is what the model adds."""

    forward: float
    backward: float
    rest: float = 0.0  # input wait, optimiser, bookkeeping
    overlap: float = 0.9  # share of the backward pass behind which the allreduce of the gradients can hide

    @property
    def alone(self):
        """Seconds without any communication."""
        return self.forward + self.backward + self.rest

    def seconds(self, allreduce):
        """Seconds with an allreduce of so many seconds, of which the backward pass hides a part."""
        return self.alone + np.maximum(0.0, np.asarray(allreduce) - self.overlap * self.backward)

    def efficiency(self, allreduce):
        """Weak scaling: the step alone over the step with communication."""
        return self.alone / self.seconds(allreduce)


def epoch_seconds(samples, hidden_share, global_batch, step_seconds, scoring_seconds=0.0):
    """Seconds of an epoch in which a share of the samples is hidden. The steps shrink with what is kept, and the traffic with them.

    samples: N. hidden_share: F in [0, 1). global_batch: samples per step. step_seconds: of one step. scoring_seconds: of selection and refresh.
    """
    kept = np.ceil((1 - np.asarray(hidden_share)) * samples)
    return np.ceil(kept / global_batch) * step_seconds + scoring_seconds
