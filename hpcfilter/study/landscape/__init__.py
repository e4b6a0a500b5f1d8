"""The landscape of the loss around the weights of a finished epoch, over all training samples and over
those that the filter keeps.

A probe moves the weights and puts them back, which their digest proves after every part. What is measured
goes to probe.h5 as it comes, so that a probe that was killed goes on where it was.
"""

from hpcfilter.study.landscape.options import PARTS, Options
from hpcfilter.study.landscape.probe import probe
from hpcfilter.study.landscape.summary import summary

__all__ = ["PARTS", "Options", "probe", "summary"]
