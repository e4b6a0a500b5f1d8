"""Dynamic uncertainty (He et al.: Large-scale dataset pruning with dynamic uncertainty, arXiv
2306.05175, equations 2 and 3)."""

from typing import Annotated

import numpy as np
from pydantic import Field

from hpcfilter.select.scores.score import Score


class DynUnc(Score):
    """importance = mean over all windows of `window` successive observations of the standard deviation
    (divisor window - 1) of softmax(z)[y] in it.

    Low both for what is always and for what is never predicted right. Not known before the first
    window is full. Memory: the last `window` probabilities, the sum of the deviations and two
    counts, 4 * window + 12 B.
    """

    needs_classes = True

    def __init__(self, *, window: Annotated[int, Field(ge=2, le=99)] = 10):
        self.warmup = window
        self.names = [f"past{age:02d}" for age in range(window)]
        self.columns = {**dict.fromkeys(self.names, (np.float32, 0)),
                        **dict.fromkeys(("deviations", "windows", "looks"), (np.float32, 0))}

    def look(self, output, target, losses, features):
        return output.softmax(dim=1).gather(1, target[:, None])[:, 0]

    def remember(self, memory, value):
        for older, newer in zip(self.names[:0:-1], self.names[-2::-1], strict=True):
            memory[older][:] = memory[newer]
        memory[self.names[0]][:] = value
        memory["looks"] += 1
        full = memory["looks"] >= len(self.names)
        deviation = np.std([memory[name] for name in self.names], axis=0, ddof=1)
        memory["deviations"] += np.where(full, deviation, 0).astype(np.float32)
        memory["windows"] += full
        return np.where(full, memory["deviations"] / np.maximum(memory["windows"], 1), np.float32(np.nan))
