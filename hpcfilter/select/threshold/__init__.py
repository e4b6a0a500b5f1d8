"""Exact global order statistics of numbers that are spread over ranks, without moving them: integers
are merged by allreduce.

Integers make every result independent of the number of ranks and of the order of reduction, and give a free
check: the counts of each round must add up to the number of samples.
"""

from hpcfilter.select.threshold.cells import Cells, cells
from hpcfilter.select.threshold.groups import lowest_by_group
from hpcfilter.select.threshold.keys import key_score, order_keys
from hpcfilter.select.threshold.lowest import cut, lowest, lowest_keys
from hpcfilter.select.threshold.sums import exact_sum, mean

__all__ = ["Cells", "cells", "cut", "exact_sum", "key_score", "lowest", "lowest_by_group", "lowest_keys",
           "mean", "order_keys"]
