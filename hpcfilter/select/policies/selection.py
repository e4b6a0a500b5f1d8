"""What a policy decides."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hpcfilter.base.errors import InputError

RULES = "none", "kept", "effective"  # for the learning rate


@dataclass
class Selection:
    """Who trains this epoch and at which weight; arrays are of this rank's own samples, (n_local,).

    keep: bool. weight: float32, factor of the sample's loss. threshold: highest score that was a candidate
    for hiding; NaN = none. lr_rule: the paper's rule for the learning rate, "none", "kept" or "effective",
    which the guards turn into lr_scale, its factor. moved_back: bool, candidates that train after all.
    refresh: bool, samples whose score wants a forward pass at the end of the epoch. frozen: the scores stay
    as they are in this epoch, so that a cut made once is made again.
    hard: bool, samples that are hidden because they are too hard. streak: uint8, what scores.streak is to be
    after this epoch; None = as it is.
    """

    _TRUTHS: ClassVar = ("keep", "moved_back", "refresh", "hard")
    _ARRAYS: ClassVar = (*_TRUTHS, "weight", "streak")

    keep: np.ndarray
    weight: np.ndarray = None
    threshold: float = float("nan")
    lr_rule: str = "none"
    lr_scale: float = 1.0
    moved_back: np.ndarray = None
    refresh: np.ndarray = None
    frozen: bool = False
    hard: np.ndarray = None
    streak: np.ndarray = None

    def __post_init__(self):
        self.keep = np.asarray(self.keep)
        self.weight = np.ones(len(self.keep), np.float32) if self.weight is None else np.asarray(self.weight)
        for name in ("moved_back", "refresh", "hard"):
            if getattr(self, name) is None:
                setattr(self, name, np.zeros(len(self.keep), bool))
            setattr(self, name, np.asarray(getattr(self, name)))

    def columns(self):
        """The arrays by name, as a table stores them (truth values as uint8)."""
        arrays = {name: getattr(self, name) for name in self._ARRAYS}
        return {name: array.astype(np.uint8) if array.dtype == bool else array
                for name, array in arrays.items() if array is not None}

    def numbers(self):
        """Everything else by name, as JSON stores it (no threshold is null)."""
        numbers = {name: value for name, value in vars(self).items() if name not in self._ARRAYS}
        return {**numbers, "threshold": None if math.isnan(self.threshold) else float(self.threshold)}

    @classmethod
    def of(cls, columns, numbers):
        """The selection that gave these columns and numbers."""
        arrays = {name: array.astype(bool) if name in cls._TRUTHS else array
                  for name, array in columns.items()}
        return cls(**{**numbers, "threshold": math.nan if numbers["threshold"] is None
                      else numbers["threshold"]}, **arrays)

    def check(self, samples, name):
        """Raise InputError unless every own sample has a truth value and a weight that is a number of at
        least 0. name: of the policy."""
        streak = [("streak", np.uint8)] if self.streak is not None else []
        for column, kind in (("keep", bool), ("weight", np.float32), ("moved_back", bool), ("refresh", bool),
                             ("hard", bool), *streak):
            array = getattr(self, column)
            if array.shape != (samples,) or array.dtype != kind:
                raise InputError(f"filter.policy: {name}: {column}: got {array.dtype} of shape "
                                 f"{array.shape}, expected {np.dtype(kind)} of shape ({samples},)")
        if self.lr_rule not in RULES:
            raise InputError(f"filter.policy: {name}: lr_rule: got {self.lr_rule!r}, expected one of "
                             f"{', '.join(RULES)}")
        if not np.all(self.weight >= 0) or not np.all(np.isfinite(self.weight)):
            wrong = self.weight[~(np.isfinite(self.weight) & (self.weight >= 0))][0]
            raise InputError(f"filter.policy: {name}: weight: got {wrong}, expected finite numbers of "
                             "at least 0")
