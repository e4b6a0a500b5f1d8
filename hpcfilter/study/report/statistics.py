"""Means with their 95 % intervals, over runs."""

import math
import statistics

from scipy.stats import t

from hpcfilter.study.report.form import Interval


def interval(values):
    """The mean of independent values and its 95 % interval by Student's t. values: list of float, not
    empty. Returns Interval."""
    mean, count = statistics.fmean(values), len(values)
    return Interval(mean, float(t.ppf(0.975, count - 1)) * statistics.stdev(values) / math.sqrt(count)
                    if count > 1 else None)


def quotient(above, below):
    """above / below of two Intervals, relative half-widths added in quadrature. Returns Interval."""
    value = above.mean / below.mean
    if above.half is None or below.half is None:
        return Interval(value, None)
    return Interval(value, abs(value) * math.hypot(above.half / above.mean, below.half / below.mean))
