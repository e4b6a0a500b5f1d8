"""How often to save."""

import math


def young_daly(save_seconds, mtbf_seconds):
    """The interval between two saves that loses least time, in seconds: sqrt(2 C M), and what is lost at it,
    as a share of the time: sqrt(2 C / M).

    save_seconds: C, what a save costs. mtbf_seconds: M, mean time between failures of the whole job. First
    order, for C much smaller than M: saving costs C / t, and a failure loses half an interval on average, t /
    (2 M) (Young 1974, eq. 4; Daly 2006, eq. 13 has the higher orders). Returns (interval, share).
    """
    return math.sqrt(2 * save_seconds * mtbf_seconds), math.sqrt(2 * save_seconds / mtbf_seconds)


class Interval:
    """What saving costs this run, and when the next save is due by the clock.

    seconds: between two saves, "auto" for Young/Daly, None for never inside an epoch. mtbf_hours: mean time
    between failures, or None.
    """

    def __init__(self, seconds, mtbf_hours):
        self._seconds, self._mtbf = seconds, mtbf_hours and 3600 * mtbf_hours
        self.saves, self.cost = 0, 0.0  # saves so far, and their seconds in all

    def wanted(self):
        """Seconds between two saves; infinite for never."""
        if self._seconds != "auto":
            return math.inf if self._seconds is None else self._seconds
        # until a save is measured: as if it took a second
        return young_daly(self.mean() or 1.0, self._mtbf)[0]

    def saved(self, seconds):
        """Take note of a save that took so long."""
        self.saves, self.cost = self.saves + 1, self.cost + seconds

    def mean(self):
        """Mean seconds of a save; 0 before the first."""
        return self.cost / self.saves if self.saves else 0.0

    def summary(self, wall_seconds):
        """What a record says of it (dict): saves, their mean seconds and share of the wall clock; with
        mtbf_hours what Young/Daly make of it."""
        costs = {"saves": self.saves, "seconds_each": self.mean(),
                 "share": self.cost / wall_seconds if wall_seconds else 0.0}
        if not self._mtbf or not self.saves:
            return costs
        interval, loss = young_daly(self.mean(), self._mtbf)
        return {**costs, "young_daly_seconds": interval, "young_daly_loss": loss}
