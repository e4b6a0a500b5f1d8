"""What a rank knows of the samples it owns."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np


@dataclass
class Scores:
    """The last observation of every owned sample; position j is global index owned[j].

    importance: float32 (n_local,), higher = more worth training; NaN = never observed, which no policy hides.
    confidence: float32 (n_local,), softmax probability of the label; NaN = never observed, or no classes.
    correct: bool (n_local,), whether the label was the prediction. seen: int64 (n_local,), observations so far.
    """

    owned: range
    total: int  # samples of all ranks
    importance: np.ndarray = None
    confidence: np.ndarray = None
    correct: np.ndarray = None
    seen: np.ndarray = None
    given: dict = field(default_factory=dict)  # columns of a selection file, for the static policy

    # name -> (type, value of a sample that was never observed)
    COLUMNS: ClassVar = {"importance": (np.float32, np.nan), "confidence": (np.float32, np.nan), "correct": (np.bool_, False), "seen": (np.int64, 0)}

    def __post_init__(self):
        for name, (dtype, unknown) in self.COLUMNS.items():
            if getattr(self, name) is None:
                setattr(self, name, np.full(len(self.owned), unknown, dtype))

    def observe(self, index, columns):
        """Take over observations of owned samples. index: int64 (m,), repeats allowed (the last one counts); columns: name -> (m,)."""
        position = np.asarray(index) - self.owned.start
        for name, values in columns.items():
            getattr(self, name)[position] = values
        np.add.at(self.seen, position, 1)

    def columns(self):
        """name -> array, as a table stores them (truth values as uint8)."""
        return {name: getattr(self, name).astype(np.uint8 if dtype is np.bool_ else dtype) for name, (dtype, _) in self.COLUMNS.items()}
