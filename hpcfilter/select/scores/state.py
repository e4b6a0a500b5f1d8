"""What a rank knows of the samples it owns."""

from typing import ClassVar

import numpy as np

from hpcfilter.base.errors import OwnCode
from hpcfilter.base.own import code, place
from hpcfilter.select.scores.score import Score


class Scores:
    """Observations of every owned sample; position j of every array (n_local,) is global index owned[j].

    importance: float32, what the score makes of all observations; higher = more worth training; NaN = not
    known, which no policy hides. confidence: float32, softmax probability of the label; NaN = never observed,
    or no classes. correct: bool, whether the label was the prediction. seen: int64, observations so far.
    fresh: bool, whether there was one since the last selection. streak: uint8, observations in a row at which
    the sample was among the hardest, as the noise guard counts.
    memory: name -> array, what the score itself remembers.
    labels: int64, the classes of the owned samples, or None. classes: how many there are. given: columns of
    the file that a policy works with.
    """

    # name -> (type, value of a sample that was never observed)
    COLUMNS: ClassVar = {"importance": (np.float32, np.nan), "confidence": (np.float32, np.nan),
                         "correct": (np.bool_, False), "seen": (np.int64, 0), "fresh": (np.bool_, False),
                         "streak": (np.uint8, 0)}

    def __init__(self, owned, total, score=None, labels=None, classes=0, given=None):
        """owned: range of global indices. total: samples of all ranks. score: scores.Score,
        default the loss."""
        self.owned, self.total, self.score = owned, total, score or Score()
        self.labels, self.classes, self.given = labels, classes, given or {}
        self.begin = 0  # the epoch of the run at which the phase has begun, whose epochs a policy counts
        self.class_sizes = None  # int64 (classes,), of all ranks, once a policy has asked for them
        for name, (dtype, unknown) in self.COLUMNS.items():
            setattr(self, name, np.full(len(owned), unknown, dtype))
        self.memory = {name: np.full(len(owned), unknown, dtype)
                       for name, (dtype, unknown) in self.score.columns.items()}

    def advance(self, selection):
        """End an epoch of this Selection, before what was observed in it arrives."""
        self.fresh[:] = False
        if selection.streak is not None:
            self.streak = selection.streak

    def update(self, index, columns):
        """Take over observations of owned samples.

        index: int64 (m,), repeats allowed (the last one counts); columns: name -> (m,), `value` as the score
        saw it, and perhaps confidence and correct. A value that is not finite leaves the memory alone and
        makes the importance NaN, so that the sample is kept.
        """
        if not len(index):
            return
        position = np.asarray(index) - self.owned.start
        self.seen += np.bincount(position, minlength=len(self.owned))
        self.fresh[position] = True
        backwards, first = np.unique(position[::-1], return_index=True)
        position, last = backwards, len(position) - 1 - first
        for name in ("confidence", "correct"):
            if name in columns:
                getattr(self, name)[position] = columns[name][last]
        value = np.asarray(columns["value"], np.float32)[last]
        finite = np.isfinite(value)
        self.importance[position[~finite]] = np.nan
        position, value = position[finite], value[finite]
        memory = {name: array[position] for name, array in self.memory.items()}
        with code(f"score.name: {self.score.name} fails to remember", ":" in self.score.name, self.score):
            remembered = np.asarray(self.score.remember(memory, value))
        if remembered.shape != value.shape or remembered.dtype.kind not in "fiub":
            raise OwnCode(f"score.name: {self.score.name}: "
                          f"remember gives {remembered.dtype} of shape {remembered.shape}, "
                          f"expected one number per sample, {value.shape}{place(self.score)}")
        self.importance[position] = remembered
        for name, array in memory.items():
            self.memory[name][position] = array

    def columns(self):
        """name -> array, as a table stores them (truth values as uint8, the memory with the
        prefix "memory.")."""
        return {name: array.astype(np.uint8) if array.dtype == bool else array
                for name, array in self._arrays().items()}

    def restore(self, columns):
        """Put back what `columns` gave. columns: name -> array (n_local,). Raises KeyError for
        another set of columns."""
        expected = self._arrays()
        if set(columns) != set(expected):
            raise KeyError(f"got the columns {', '.join(sorted(columns))}; "
                           f"expected {', '.join(sorted(expected))}")
        for name, array in expected.items():
            array[:] = columns[name]

    def _arrays(self):
        return {**{name: getattr(self, name) for name in self.COLUMNS},
                **{f"memory.{name}": array for name, array in self.memory.items()}}
