"""The table [record]."""

from hpcfilter.base.settings import Table


class Recorded(Table):
    """[record]: what a run measures of itself beyond what it always does."""

    # wait for a GPU at each part of a step, so that its times are exact; slows it down
    breakdown: bool = False
    noise_scale: bool = False  # measure the gradient noise scale in every epoch
