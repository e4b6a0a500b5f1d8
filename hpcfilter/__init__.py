"""hpcfilter: train deep networks on supercomputers on the samples that matter.

    comm = hpcfilter.world()                              # who am I, how do we add up
    mask = hpcfilter.lowest(scores, n, comm)              # the globally n lowest scores, exactly, on any number of ranks
"""

from hpcfilter.comm import world
from hpcfilter.threshold import lowest

__version__ = "0.1.0"
__all__ = ["lowest", "world"]
