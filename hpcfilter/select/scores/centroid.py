"""The distance to the centre of the own class in the network's representation: the unusual lie far
out, the redundant near."""

from typing import Literal

import numpy as np

from hpcfilter.select.scores.score import Score


class Centroid(Score):
    """importance = ||h_i - mu_y||_2, or with form = "margin" ||h_i - mu_y||_2 - min_{c != y}
    ||h_i - mu_c||_2.

    h goes into the last linear layer, mu_c is the mean of h over the training samples of class c, or over all
    for a class without any. Two passes over a finished network: the first adds up (`add`), one allreduce of C
    * (d + 1) float64 merges the ranks (`merge`), the second looks. Sums of floats: the last bits depend on
    the number of ranks. Memory: none.
    """

    needs_classes = True
    needs_features = True
    needs_passes = True

    def __init__(self, *, form: Literal["distance", "margin"] = "distance"):
        self.form, self.sums, self.centres = form, None, None

    def add(self, target, features, classes):
        """Add a batch to the sums. target: int64 (b,); features: (b, d); classes: C."""
        import torch

        rows = torch.cat([features.double(),
                          torch.ones(len(features), 1, dtype=torch.float64, device=features.device)], dim=1)
        self.sums = (torch.zeros(classes, rows.shape[1], dtype=torch.float64, device=rows.device)
                     if self.sums is None else self.sums)
        self.sums.index_add_(0, target, rows)

    def merge(self, comm):
        """Make the centres from the sums of all ranks, each of which has added something.
        All ranks must call."""
        import torch

        sums = comm.sum(self.sums.cpu().numpy())
        means = sums[:, :-1] / np.maximum(sums[:, -1:], 1)
        means[sums[:, -1] == 0] = sums[:, :-1].sum(axis=0) / max(sums[:, -1].sum(), 1)
        self.centres = torch.from_numpy(means)

    def look(self, output, target, losses, features):
        import torch

        distance = torch.cdist(features.double(), self.centres.to(features.device))
        own = distance.gather(1, target[:, None])[:, 0]
        if self.form == "distance":
            return own
        return own - distance.scatter(1, target[:, None], np.inf).min(dim=1).values
