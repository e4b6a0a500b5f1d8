"""What a policy decides."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Selection:
    """Who trains this epoch and at which weight; arrays are of this rank's own samples, (n_local,).

    keep: bool. weight: float32, factor of the sample's loss. threshold: highest score that was a candidate for hiding; NaN = none.
    lr_scale: factor of the learning rate. moved_back: bool, candidates that train after all. refresh: bool, samples whose
    score wants a forward pass at the end of the epoch.
    """

    keep: np.ndarray
    weight: np.ndarray = None
    threshold: float = float("nan")
    lr_scale: float = 1.0
    moved_back: np.ndarray = None
    refresh: np.ndarray = None

    def __post_init__(self):
        if self.weight is None:
            self.weight = np.ones(len(self.keep), np.float32)
        for name in ("moved_back", "refresh"):
            if getattr(self, name) is None:
                setattr(self, name, np.zeros(len(self.keep), bool))
