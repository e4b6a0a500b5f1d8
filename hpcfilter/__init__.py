"""hpcfilter: train deep networks on supercomputers on the samples that matter.

    comm = hpcfilter.world()                              # who am I, how do we add up
    mask = hpcfilter.lowest(scores, n, comm)              # the globally n lowest scores, exactly
    sampler = hpcfilter.Filter(len(dataset), "infobatch", epochs=90)    # in a training script of your own
"""

import importlib

__version__ = "0.1.0"
__all__ = ["Filter", "Score", "Selection", "lowest", "policy", "world"]

# Imported when asked for: numpy takes a while, and not every machine has torch
_HOMES = {"Filter": "filter", "Score": "select.scores", "Selection": "select.policies",
          "policy": "select.policies", "lowest": "select.threshold", "world": "comm"}


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"hpcfilter.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'hpcfilter' has no attribute '{name}'")
