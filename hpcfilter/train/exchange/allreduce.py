"""One sum of all gradients per step, which begins during the backward pass."""

from typing import Literal

from hpcfilter.train.exchange.horovod import OnHorovod


class Allreduce(OnHorovod):
    """Ring-allreduce: all ranks step with the mean gradient over the global batch.

    average: send means over a rank's own samples instead of parts of the global sum; what comes out is the
    same but for rounding. compression: fp16 sends float16, always as means, since float16 has no digits for a
    small part of a small number.
    """

    def __init__(self, comm, deterministic=False, *, average: bool = False,
                 compression: Literal["none", "fp16"] = "none"):
        super().__init__(comm, deterministic)
        self.compression, self.average = compression, average or compression == "fp16"
        self.scale_to_mean = 1 if self.average else comm.size

    def prepare(self, model, optimizer):
        if self.comm.size == 1:
            return optimizer
        return self._distributed(model, optimizer, "Average" if self.average else "Sum")

    def divisor(self, batch):
        return batch.total / (self.comm.size if self.average else 1)
