"""The logit margin, and its mean over the epochs, AUM (Pleiss et al.: Identifying mislabeled data using
the area under the margin ranking, arXiv 2001.10528, equations 1 and 2). A small margin is a hard sample,
or a mislabelled one."""

from typing import ClassVar

import numpy as np

from hpcfilter.select.scores.score import Score


class Margin(Score):
    """importance = max_{c != y} z_c - z_y, the negative margin of the last observation. Memory: none."""

    needs_classes = True

    def look(self, output, target, losses, features):
        own = output.gather(1, target[:, None])[:, 0]
        others = output.scatter(1, target[:, None], -np.inf)
        return others.max(dim=1).values - own


class AUM(Margin):
    """importance = the mean of the negative margin over all observations. Memory: sum and count, 8 B."""

    columns: ClassVar = {"margins": (np.float32, 0), "looks": (np.float32, 0)}

    def remember(self, memory, value):
        memory["margins"] += value
        memory["looks"] += 1
        return memory["margins"] / memory["looks"]
