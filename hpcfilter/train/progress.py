"""How far a run has come. What is not of this process alone is in every checkpoint."""

from dataclasses import dataclass, field

from hpcfilter.record.clock import Stopwatch
from hpcfilter.select.policies import Selection
from hpcfilter.select.seen import Seen

# what the seconds of an epoch are divided into
CLOCKS = "train", "select", "rebalance", "score", "evaluate", "checkpoint"


@dataclass
class Progress:
    """The epoch that is to be trained now, or the rest of it, as this rank knows it; and the run's totals."""

    epoch: int = 0
    step: int = 0  # steps done in it
    selection: Selection = None  # of the epoch; None: still to be made
    rate: float = 0.0  # learning rate of the last step
    seconds: dict = field(default_factory=dict)  # clock -> spent in the epoch before a save
    rows: dict = field(default_factory=dict)  # what was seen in it before a save, as Seen.rows gives it
    trained: int = 0  # samples trained so far, of all ranks
    looked: int = 0  # samples that had a forward pass alone so far, of all ranks
    row: dict | None = None  # of the last finished epoch, as the record has it
    result: dict | None = None  # of the last evaluation in this process
    start: str = ""  # digest of the weights that were begun with, of [model] start

    # Of the epoch, and not saved
    seen: Seen = None
    clock: Stopwatch = None
    notes: dict = field(default_factory=dict)  # what the parts of the epoch have to say for its rows

    def begin(self, names):
        """Begin the epoch, or go on with it. names: of the columns that are seen."""
        self.seen, self.clock, self.notes = (Seen(names, self.rows), Stopwatch(*CLOCKS, spent=self.seconds),
                                             {"first": self.step})

    def next(self):
        """The epoch is over."""
        self.epoch, self.step, self.selection, self.rate, self.seconds, self.rows = (self.epoch + 1, 0, None,
                                                                                     0.0, {}, {})
