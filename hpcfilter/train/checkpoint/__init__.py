"""Atomic generations of a run: weights, optimiser and what is known of every sample, by global index."""

from hpcfilter.train.checkpoint.generation import (
    check,
    check_settings,
    ends_epoch,
    generations,
    glance,
    newest,
    of_epoch,
    position,
    read_stamp,
)
from hpcfilter.train.checkpoint.interval import Interval, young_daly
from hpcfilter.train.checkpoint.state import (
    check_torch,
    load,
    of_run,
    read_weights,
    resume_epoch,
    save,
    sources,
)

__all__ = [
    "Interval", "check", "check_settings", "check_torch",
    "ends_epoch", "generations", "glance", "load", "newest", "of_epoch", "of_run",
    "position", "read_stamp", "read_weights", "resume_epoch", "save", "sources", "young_daly",
]
