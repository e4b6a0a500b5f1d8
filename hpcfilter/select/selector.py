"""The filter itself: who trains in an epoch, and what this rank knows of the samples that it owns."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hpcfilter.base.shard import edges
from hpcfilter.select.home import batch_means, deliver
from hpcfilter.select.order import selection_digest, table_digest

OF_TRAINING = "index", "step", "loss"  # columns of a row that are not for its owner


@dataclass(frozen=True)
class Stretch:
    """Epochs with one policy. begin: the first of them. select: (scores, epoch since begin, seed, comm) ->
    Selection, the policy inside its guards. policy: its name. parameters: its own. reads: whether it works
    with what comes from files; the files of other phases are not for it."""

    begin: int
    policy: str
    select: Callable
    parameters: dict = field(default_factory=dict)
    reads: bool = True


class Selector:
    """Policies, scores, and the way home of observations. All ranks must call `select`,
    `take` and the digests.

    scores: select.scores.Scores of this rank's own samples. stretches: of Stretch, by their beginning, the
    first of which begins at 0.
    """

    def __init__(self, stretches, scores, seed, comm):
        self.stretches, self.scores, self.seed, self.comm = tuple(stretches), scores, seed, comm
        self.shards = edges(scores.total, comm.size)
        self._given = scores.given

    def stretch(self, epoch):
        """The Stretch that an epoch belongs to."""
        return [each for each in self.stretches if each.begin <= epoch][-1]

    def select(self, epoch):
        """Who trains in an epoch, at which weight. Returns Selection."""
        here = self.stretch(epoch)
        self.scores.begin = here.begin
        self.scores.given = self._given if here.reads else {}
        return here.select(self.scores, epoch - here.begin, self.seed, self.comm)

    def take(self, selection, rows, steps):
        """What was seen of samples in an epoch goes to their owners, in one message; the scores stay as they
        are when they are frozen.

        rows: name -> array (m,) of what this rank has trained: index, value, perhaps step, confidence,
        correct. steps: of the epoch, the same on all ranks; a score of batches takes the mean over each.
        """
        if self.scores.score.needs_batches:
            rows = {**rows, "value": batch_means(rows["value"], rows["step"], steps, self.comm)}
        self.scores.advance(selection)
        if not selection.frozen:
            columns = {name: array for name, array in rows.items() if name not in OF_TRAINING}
            self.scores.update(*deliver(rows["index"], columns, self.shards, self.comm))

    def wanted(self, selection):
        """Own samples that want a forward pass at the end of the epoch: bool (n_local,). A loss of batches
        comes from training alone."""
        return selection.refresh & (not selection.frozen) & (not self.scores.score.needs_batches)

    def hidden(self, selection):
        """Their global indices, int64 (m,)."""
        return np.asarray(self.scores.owned)[self.wanted(selection)]

    def refresh(self, index, columns):
        """Take over a forward pass over own samples. index: int64 (m,). columns: name -> (m,),
        with value. No message."""
        self.scores.update(index, columns)

    def digest(self, selection):
        """Hex digest of the global set of kept samples."""
        return selection_digest(selection, self.scores.owned, self.comm)

    @cached_property
    def given_digest(self):
        """Hex digest of what policies read from files; "" for nothing."""
        return table_digest(self._given, self.scores.owned, self.comm)
