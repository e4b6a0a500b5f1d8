"""Between two steps: when all ranks look up from their work together, and what they then agree to do."""

import time

import numpy as np

from hpcfilter.base.alive import notice

LOOK_SECONDS = 0.5  # between two agreements, so that they cost nothing beside steps of any length
MOST_STEPS = 50  # ... and that steps which become slow are noticed soon


class Boundary:
    """The step boundaries of a run. `reached` is called by all ranks after every step, and gives
    the same answer on all."""

    def __init__(self, comm, interval, lost=bool):
        """interval: checkpoint.Interval. lost: says whether the run folder has become another job's; then the
        ranks leave, too."""
        self.comm, self.interval, self._lost = comm, interval, lost
        self._ahead = 1  # steps until the next agreement, the same on all ranks
        self._steps, self._looked, self._saved = 0, time.monotonic(), time.monotonic()

    def reached(self):
        """After a step. Returns "leave", "save" or ""."""
        self._steps += 1
        if self._steps < self._ahead:
            return ""
        return self.agree()

    def agree(self):
        """Ask all ranks at once: one allreduce of three numbers. Returns "leave", "save" or ""."""
        now, interval = time.monotonic(), self.interval.wanted()
        pace = max((now - self._looked) / max(self._steps, 1), 1e-9)  # seconds per step
        ahead = np.clip(min(LOOK_SECONDS, interval / 4) / pace, 1, MOST_STEPS)
        leave, due, ahead = self.comm.max(np.array([bool(notice.reason()) or self._lost(),
                                                    now - self._saved >= interval, -ahead], np.float64))
        self._ahead, self._steps, self._looked = int(-ahead), 0, now
        return "leave" if leave else "save" if due else ""

    def saved(self, seconds):
        """A save has taken so long; the next is due an interval from now."""
        self.interval.saved(seconds)
        self._saved = self._looked = time.monotonic()

    def reason(self):
        """Why the ranks leave, in words: the first that knows says it. All ranks must call."""
        mine = notice.reason()
        first = int(self.comm.min(self.comm.rank if mine else self.comm.size))
        return self.comm.bcast(mine, root=first % self.comm.size) or "a deadline on a clock that was set back"
