"""The training loss: the importance that KAKURENBO, InfoBatch, SeTa and Selective-Backprop rank by; and
what its history tells."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from hpcfilter.select.scores.score import Score


class Loss(Score):
    """importance = the last loss_i. Works for any target. Memory: none beyond the importance."""


class Ema(Score):
    """importance = alpha * (what it was) + (1 - alpha) * loss_i, an exponential moving average that begins at
    the first loss. Memory: none."""

    columns: ClassVar = {"average": (np.float32, np.nan)}

    def __init__(self, *, alpha: Annotated[float, Field(ge=0, lt=1)] = 0.9):
        self.alpha = alpha

    def remember(self, memory, value):
        old = memory["average"]
        memory["average"][:] = np.where(np.isnan(old), value, self.alpha * old + (1 - self.alpha) * value)
        return memory["average"]


class Difference(Score):
    """importance = |mean of the last three second differences of the loss|: how far a sample is from having
    settled (IES, ICLR 2025).

    The mean of l_t - 2 l_{t-1} + l_{t-2} over three steps telescopes to ((l_t - l_{t-1}) -
    (l_{t-3} - l_{t-4})) / 3. Not known before the fifth observation. Memory: the last five losses, 20 B.
    """

    warmup = 5
    columns: ClassVar = {f"loss{age}": (np.float32, np.nan) for age in range(5)}

    def remember(self, memory, value):
        for age in (4, 3, 2, 1):
            memory[f"loss{age}"][:] = memory[f"loss{age - 1}"]
        memory["loss0"][:] = value
        loss = [memory[f"loss{age}"] for age in range(5)]
        return np.abs((loss[0] - loss[1]) - (loss[3] - loss[4])) / np.float32(3)


class BatchLoss(Score):
    """importance s_i = alpha s_i + (1 - alpha) L_B, with L_B the mean loss of the global batch that held i,
    from s_i = 0 (BLS, arXiv 2604.04681).

    The loop supplies L_B, the same on every rank; the default alpha is that of the published
    code. Memory: s, 4 B.
    """

    needs_batches = True
    columns: ClassVar = {"average": (np.float32, 0)}

    def __init__(self, *, alpha: Annotated[float, Field(ge=0, lt=1)] = 0.9):
        self.alpha = alpha

    def remember(self, memory, value):
        memory["average"][:] = self.alpha * memory["average"] + (1 - self.alpha) * value
        return memory["average"]


class Evolved(Score):
    """importance w_i = b1 s_i + (1 - b1) l_i, then s_i = b2 s_i + (1 - b2) l_i (ES, arXiv 2509.23461): the
    average and the change of the loss.

    b1 and b2 are not verified against the paper's tables; s_i begins at the first loss. Memory: s, 4 B.
    """

    columns: ClassVar = {"average": (np.float32, np.nan)}

    def __init__(self, *, b1: Annotated[float, Field(ge=0, le=1)] = 0.2,
                 b2: Annotated[float, Field(ge=0, le=1)] = 0.9):
        self.b1, self.b2 = b1, b2

    def remember(self, memory, value):
        s = np.where(np.isnan(memory["average"]), value, memory["average"])
        memory["average"][:] = self.b2 * s + (1 - self.b2) * value
        return (self.b1 * s + (1 - self.b1) * value).astype(np.float32)
