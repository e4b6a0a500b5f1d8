"""Slices of the loss through the weights, along directions that are normalised filter by filter (Li et
al., arXiv 1712.09913)."""

import numpy as np

from hpcfilter.study.landscape.points import empty, look_at
from hpcfilter.study.landscape.shape import flat_share, minima, minima_of_plane, roughness


def slices(weights, loss, found, options, seed, comm, save, title):
    """The 1-D slices along `options.directions` directions, and the 2-D slice along the first two, in eval
    mode. All ranks must call.

    found: dict of the set, in which slice1d and slice2d are filled in; points that are there already are not
    looked at again. save: as in `look_at`.
    """
    directions = [weights.direction(seed, number) for number in range(max(2, options.directions))]
    position, side = (_symmetric(options.span, number) for number in (options.points, options.grid))

    def look(*steps):
        with weights.moved(*steps):
            return loss.alone()

    line = found.setdefault("slice1d",
                            {"position": position, **empty(loss.names, (options.directions, options.points))})
    look_at([line[name] for name in loss.names],
            lambda place: look((position[place[1]], directions[place[0]])), comm, save, f"{title}: lines")
    line["minima"] = np.array([minima(curve) for curve in line["loss"]])
    line["roughness"] = np.array([roughness(curve) for curve in line["loss"]])
    plane = found.setdefault("slice2d",
                             {"a": side, "b": side, **empty(loss.names, (options.grid, options.grid))})
    look_at([plane[name] for name in loss.names],
            lambda place: look(*zip(side[list(place)], directions[:2], strict=True)), comm, save,
            f"{title}: plane")
    plane["minima"], plane["flat_share"] = minima_of_plane(plane["loss"]), flat_share(plane["loss"])


def _symmetric(span, number):
    """An odd number of places from -span to span, the middle one exactly 0."""
    half = number // 2
    return np.arange(-half, half + 1) / half * span
