"""hpcfilter: train deep networks on supercomputers on the samples that matter.

    comm = hpcfilter.world()                              # who am I, how do we add up
    mask = hpcfilter.lowest(scores, n, comm)              # the globally n lowest scores, exactly, on any number of ranks
    sampler = hpcfilter.Filter(len(dataset), "infobatch", epochs=90)    # in a training script of your own
"""

__version__ = "0.1.0"
__all__ = ["Filter", "lowest", "world"]


def __getattr__(name):  # late: numpy takes a while, and torch not every machine has that uses the rest
    if name == "Filter":
        from hpcfilter.filter import Filter

        return Filter
    if name == "lowest":
        from hpcfilter.threshold import lowest

        return lowest
    if name == "world":
        from hpcfilter.comm import world

        return world
    raise AttributeError(f"module 'hpcfilter' has no attribute '{name}'")
