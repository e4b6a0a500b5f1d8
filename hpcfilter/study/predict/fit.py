"""Fit the alpha-beta model to measured allreduces.

MPI changes its protocol with the size (eager, rendezvous, pipelined; caches overflow), so one line does not
do: the sizes are cut into at most a few ranges with a line each, where the cut and the lines are those with
the least squared relative error.
"""

from dataclasses import dataclass

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.study.predict.allreduce import Link

RANGES = 4  # at most
FEWEST = 3  # measured sizes in a range
# squared relative error that one more range must take away: one measurement that is off by a tenth
PRICE = 0.01


@dataclass(frozen=True)
class Fit:
    """Time of an allreduce on a number of ranks: a + b n between `edges`. Beyond the measured sizes
    the outer lines go on."""

    ranks: int
    edges: tuple  # bytes, where the next line begins; one less than lines
    lines: tuple  # of (a seconds, b seconds per byte)

    def seconds(self, size):
        """The modelled time. size: bytes, number or array."""
        size = np.asarray(size, float)
        line = np.searchsorted(self.edges, size, side="right")
        a, b = np.array(self.lines).T
        return a[line] + b[line] * size

    def error(self, size, seconds):
        """Relative error against measurements, of each: |model / measured - 1|."""
        return np.abs(self.seconds(size) / np.asarray(seconds) - 1)

    def link(self):
        """The Link of a ring that would take as long on as many ranks: the latency of the smallest messages,
        the bandwidth of the largest."""
        steps = 2 * (self.ranks - 1)
        a, b = self.lines[0][0], self.lines[-1][1]
        return Link(a / steps, steps / self.ranks / b if b > 0 else float("inf"))


def fit(size, seconds, ranks):
    """Fit measurements. size: bytes (m,), increasing; seconds: (m,), positive. Returns Fit. Raises InputError
    for fewer than three of them."""
    size, seconds = np.asarray(size, float), np.asarray(seconds, float)
    if len(size) < FEWEST or np.any(np.diff(size) <= 0) or np.any(seconds <= 0):
        raise InputError(f"allreduce: got {len(size)} measurements, expected at least {FEWEST} of increasing "
                         "sizes and positive times")
    count = len(size)
    # (sizes covered, ranges used) -> (squared relative error, lines with where they begin)
    best = {(0, 0): (0.0, ())}
    for end in range(FEWEST, count + 1):
        for begin in [0, *range(FEWEST, end - FEWEST + 1)]:
            line, error = _line(size[begin:end], seconds[begin:end], 0.0 if begin == 0 else size[begin] / 2)
            for used in range(RANGES):
                if (before := best.get((begin, used))) is not None:
                    found = before[0] + error, (*before[1], (begin, line))
                    if found[0] < best.get((end, used + 1), (np.inf,))[0]:
                        best[end, used + 1] = found
    chosen = min((found for (end, _), found in sorted(best.items()) if end == count),
                 key=lambda found: found[0] + PRICE * len(found[1]))
    cuts = [begin for begin, _ in chosen[1][1:]]
    return Fit(ranks, tuple(float(np.sqrt(size[cut - 1] * size[cut])) for cut in cuts),
               tuple(line for _, line in chosen[1]))


def _line(size, seconds, least):
    """((a, b), squared relative error) of the line a + b n of least squared relative error, with b >= 0, that
    is not negative from `least` bytes on.

    Only that of the smallest sizes must have a >= 0: where messages outgrow a cache, each byte costs more
    from there on, and a is below zero.
    """
    weighted = np.stack([1 / seconds, size / seconds], axis=1)
    candidates = [np.linalg.lstsq(weighted, np.ones(len(size)), rcond=None)[0]]
    for column in (0, 1):  # one of the two alone, for when the other would be negative
        part = weighted[:, column]
        candidates.append(np.eye(2)[column] * (part.sum() / (part @ part)))
    errors = [(float(np.sum((weighted @ line - 1) ** 2)), tuple(map(float, line))) for line in candidates
              if line[1] >= 0 and line[0] + line[1] * least >= 0]
    error, line = min(errors)
    return line, error
