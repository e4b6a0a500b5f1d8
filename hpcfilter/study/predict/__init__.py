"""Time forecasts from measured numbers: an allreduce, a step, an epoch on more ranks. Every result is
modelled, none is a measurement."""

from hpcfilter.study.predict.allreduce import Link, hierarchical, ring, tree, ways
from hpcfilter.study.predict.fit import Fit, fit
from hpcfilter.study.predict.step import Step, epoch_seconds, selection_seconds

__all__ = ["Fit", "Link", "Step", "epoch_seconds", "fit", "hierarchical", "ring", "selection_seconds",
           "tree", "ways"]
