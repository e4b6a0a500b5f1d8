"""A map of the samples for a report: what the network makes of some of them, in two dimensions, with those at
both ends of the importance."""

import numpy as np
import torch

from hpcfilter.base.errors import InputError
from hpcfilter.base.shard import shard
from hpcfilter.select.threshold import lowest
from hpcfilter.study.landscape.lanczos import largest
from hpcfilter.study.landscape.sets import chosen
from hpcfilter.train.network import Features

MOST = 3000  # samples drawn by hash
ENDS = 24  # samples of lowest, of highest importance, and around the threshold
IMAGES = 100  # of the samples drawn by hash; those of the ends all have theirs
SIDE = 64  # pixels of a thumbnail's longer side
WIDE = 4096  # features of a sample; of more, evenly spaced ones
TOLERANCE = 1e-5  # of the axes, relative


def sample_map(network, dataset, kept, most, batch, seed, comm):
    """The dict `samples` of a data.Probe, on every rank. All ranks must call.

    kept: sets.Kept. most: how many samples are drawn at most, None for MOST. batch: of a forward pass. xy are
    the first two principal components, fitted to the drawn ones, of what goes into the model's last linear
    layer, of the output where there is none. Memory: some bytes per sample of the set, and what MOST take,
    their features on rank 0 only.
    """
    total, names = len(dataset.train), [*([] if network.classes == 0 else dataset.classes)]
    drawn = chosen(np.arange(total), min(most or MOST, MOST), seed)
    groups = _ends(kept, total, comm)
    index = np.unique(np.concatenate([drawn, *groups.values()]))
    rows = {name: np.searchsorted(index, group) for name, group in groups.items()}
    pictured = np.unique(np.concatenate([chosen(drawn, IMAGES, seed), *groups.values()]))
    features, columns = _look(network, dataset.train, index[slice(*_part(len(index), comm))], batch)
    features, by_hash = [*comm.gather(features)], np.isin(index, drawn)
    xy = comm.on_first(lambda: principal(np.concatenate(features), by_hash))
    columns = {name: np.concatenate(comm.allgather(column)) for name, column in columns.items()}
    owned = shard(total, comm.rank, comm.size)
    importance = kept.importance[index[slice(*np.searchsorted(index, (owned.start, owned.stop)))]
                                 - owned.start]
    images = _thumbnails(dataset, pictured)
    images = {} if images is None else {"images": images, "image_of": np.searchsorted(index, pictured)}
    return {"index": index, "xy": xy, "importance": np.concatenate(comm.allgather(importance)), **columns,
            "kept": kept.keep[index].astype(np.uint8), "drawn": by_hash.astype(np.uint8), **rows, **images,
            "total": total, "threshold": kept.threshold, "score": network.score.name, "classes": names,
            "layout": dataset.layout}


def _part(length, comm):
    part = shard(length, comm.rank, comm.size)
    return part.start, part.stop


def _ends(kept, total, comm):
    """The samples of lowest and highest importance and those around the threshold, in order of importance.
    NaN counts as neither."""
    owned, importance = shard(total, comm.rank, comm.size), kept.importance
    below = importance <= kept.threshold  # nowhere, without a threshold
    above = importance > kept.threshold

    def first(values, number):
        """Those of the lowest values, ascending."""
        mask = lowest(values.astype(np.float32), number, comm)
        index, values = (np.concatenate(comm.allgather(part))
                         for part in (np.asarray(owned)[mask], values[mask]))
        return index[np.argsort(values, kind="stable")]

    nothing = np.float32(np.nan)
    around = first(np.where(below, -importance, nothing),
                   ENDS // 2)[::-1], first(np.where(above, importance, nothing), ENDS // 2)
    return {"lowest": first(importance, ENDS), "highest": first(-importance, ENDS),
            "around": np.concatenate(around)}


def _look(network, split, index, batch):
    """Features float32 (m, d), and the columns label, prediction, confidence and loss of
    samples, by this rank alone."""
    try:
        features = network.features or Features(network.model)
    except InputError:
        features = None
    parts = []
    # a rank without samples: the first one tells how wide the features are
    rows = index if len(index) else np.zeros(1, np.int64)
    for (output, losses), y in network.forward_all(split, rows, batch):
        wide = (features.last if features else output).float().flatten(1)
        parts.append([wide[:, :: -(-wide.shape[1] // WIDE)].contiguous(),
                      *_columns(output, y, network.classes), losses])
    features, *columns = (torch.cat(column).cpu().numpy()[: len(index)]
                          for column in zip(*parts, strict=True))
    return features, dict(zip(("label", "prediction", "confidence", "loss"), columns, strict=True))


def _columns(output, y, classes):
    """Label, prediction and the prediction's confidence (softmax). Without classes: target and output, each
    where it is one number, else -1; NaN."""
    if classes:
        confidence, prediction = torch.softmax(output, dim=1).max(dim=1)
        return y, prediction, confidence.float()
    numbers = (part.reshape(len(y)).float() if part[0].numel() == 1 else torch.full((len(y),), -1.0)
               for part in (y, output))
    return *numbers, torch.full((len(y),), torch.nan)


def principal(features, fitted):
    """The first two principal components of the samples. features: (m, d). fitted: bool (m,), the samples
    that mean and axes are taken from.

    Each axis points where its largest loading is positive, so that the map does not depend on how it
    was computed. Returns float32 (m, 2), 0 where there are fewer axes; samples with features that
    are not finite lie at NaN.
    """
    finite = np.isfinite(features).all(axis=1)
    known = features[fitted & finite].astype(np.float64)
    xy = np.zeros((len(features), 2), np.float32)
    xy[~finite] = np.nan
    mean = known.mean(axis=0) if len(known) else 0
    centred = known - mean
    if not centred.any():
        return xy
    if centred.shape[1] > 2:
        axes = largest(lambda axis: (centred @ axis) @ centred, centred.shape[1], 2, 0, TOLERANCE)[1].T
    else:
        axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    xy[finite, : len(axes)] = (features[finite] - mean) @ axes.T
    return xy


def _thumbnails(dataset, index):
    """Raw rows, thinned out to SIDE pixels, uint8 (n, h, w[, c]); None where the rows are no images."""
    if not dataset.layout or dataset.train.images.dtype != np.uint8:
        return None
    height, width = dataset.train.images.shape[1:3]
    step = -(-max(height, width) // SIDE)
    return np.stack([dataset.train.rows(index[place : place + 1])[0][0, ::step, ::step]
                     for place in range(len(index))])
