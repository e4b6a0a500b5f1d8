"""One sum of all gradients per step, which begins during the backward pass."""

from typing import Literal

from hpcfilter.train.exchange.exchange import Exchange


class Allreduce(Exchange):
    """Ring-allreduce: all ranks step with the mean gradient over the global batch.

    average: send means over a rank's own samples instead of parts of the global sum, as the engine torch
    always does; what comes out is the same but for rounding. compression: fp16 or bf16 (engine torch) sends
    16 bits for 32, always as means, since float16 has no digits for a small part of a small number.
    """

    def __init__(self, comm, engine, *, average: bool = False,
                 compression: Literal["none", "fp16", "bf16"] = "none"):
        super().__init__(comm, engine)
        self.compression, self.average = compression, average or engine.means or compression != "none"
        self.scale_to_mean = 1 if self.average else comm.size

    def prepare(self, model, optimizer):
        return self.engine.connect(model, optimizer, "Average" if self.average else "Sum", self.compression)

    def divisor(self, batch):
        return batch.total / (self.comm.size if self.average else 1)
