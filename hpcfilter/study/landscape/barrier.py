"""The barrier on the straight line between two networks (Frankle et al., arXiv 1912.05671, section 2):
how far the loss rises above the straight line between the losses of both (Entezari et al., arXiv
2110.06296, section 2)."""

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from hpcfilter.base.alive.pulse import beat
from hpcfilter.base.randomness import hash64
from hpcfilter.study.landscape.points import empty, look_at
from hpcfilter.study.landscape.sets import chosen

POINTS = 21
BATCH, BATCHES = 256, 32  # at most, of the samples that the statistics are taken anew from


def barrier(weights, loss, found, other, about, statistics, comm, save, title):
    """max over alpha of L(alpha w + (1 - alpha) w') - (alpha L(w) + (1 - alpha) L(w')); each point, also the
    ends, has new BatchNorm statistics.

    w: the weights, at alpha = 1. other: w', a state dict. about: attributes that say whose.
    statistics: function that takes those of BatchNorm anew. found: dict of the set, in which barrier is
    filled in. save, title: as in `look_at`. All ranks must call.
    """
    alpha = np.linspace(0, 1, POINTS)

    def look(place):
        with weights.between(other, alpha[place[0]]):
            statistics()
            return loss.alone()[:1]

    line = found.setdefault("barrier", {"alpha": alpha, **about, **empty(["loss"], POINTS)})
    look_at([line["loss"]], look, comm, save, f"{title}: barrier")
    line["barrier"] = float(np.max(line["loss"] - (alpha * line["loss"][-1] + (1 - alpha) * line["loss"][0])))


def statistics_of(network, split, seed, batch):
    """The function that takes the running statistics of all BatchNorm layers anew, as the mean over batches
    of training samples, by this rank alone.

    batch: samples of each. The samples, at most BATCH * BATCHES, and their order are a function of the seed;
    the batches are equally large.
    """
    index = chosen(np.arange(len(split)), BATCH * BATCHES, seed)
    index = index[np.argsort(hash64(seed, 0, index, "statistics"))]
    if len(index) > batch:
        index = index[: len(index) // batch * batch]
    layers = [layer for layer in network.model.modules()
              if isinstance(layer, _BatchNorm) and layer.track_running_stats]

    @torch.no_grad()
    def take():
        if not layers:
            return
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean of all batches
            layer.train()
        try:
            for start in range(0, len(index), batch):
                beat()
                network.model(network.tensors(*split.rows(index[start : start + batch]))[0])
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
                layer.eval()

    return take
