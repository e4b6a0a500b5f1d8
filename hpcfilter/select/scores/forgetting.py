"""Forgetting events (Toneva et al.: An empirical study of example forgetting during deep neural network
learning, arXiv 1812.05159, section 3)."""

from typing import ClassVar

import numpy as np

from hpcfilter.select.scores.score import Score


class Forgetting(Score):
    """importance = how often a correct prediction became a wrong one; +inf for a sample that
    was never predicted right.

    Memory: the last correctness, whether there was any, and the count, 6 B.
    """

    needs_classes = True
    columns: ClassVar = {"right": (np.bool_, False), "learned": (np.bool_, False),
                         "forgotten": (np.float32, 0)}

    def look(self, output, target, losses, features):
        return (output.argmax(dim=1) == target).float()

    def remember(self, memory, value):
        right = value > 0
        memory["forgotten"] += memory["right"] & ~right
        memory["right"][:] = right
        memory["learned"] |= right
        return np.where(memory["learned"], memory["forgotten"], np.float32(np.inf))
