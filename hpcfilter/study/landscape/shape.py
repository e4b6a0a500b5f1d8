"""The shape of sampled curves and planes in numbers: how many minima, how rough, how flat."""

import itertools

import numpy as np
from scipy import ndimage

FLAT = 0.1  # rise of the loss that counts as flat


def minima(curve):
    """How many strict local minima a sampled curve has. curve: float (n,). A plateau counts once, the ends do
    not count. Returns int."""
    steps = [key for key, _ in itertools.groupby(curve)]
    return sum(left > here < right for left, here, right in zip(steps, steps[1:], steps[2:], strict=False))


def roughness(curve):
    """The total variation of a sampled curve beyond that of a single valley with the same ends and the same
    lowest point, as a share of its range:

        (sum |f_i+1 - f_i| - (f_first + f_last - 2 min f)) / (max f - min f)

    It is 0 for every curve that falls and then rises, and grows by up to 2 with every further dip. The total
    variation as a share of the range is what Wu et al. (arXiv 2103.11069) build their roughness index of.
    curve: float (n,). Returns float; 0 for a flat one, NaN for one that is not finite.
    """
    if not np.isfinite(curve).all():
        return float("nan")
    low, high = curve.min(), curve.max()
    if low == high:
        return 0.0
    # the rest is rounding
    return round(
        max(0.0, float((np.abs(np.diff(curve)).sum() - (curve[0] + curve[-1] - 2 * low)) / (high - low))), 12)


def minima_of_plane(plane):
    """How many strict local minima a sampled plane has, among 8 neighbours each. plane: float (n, m). A
    plateau counts once; one that touches the edge does not count. Returns int."""
    around = np.ones((3, 3), bool)
    low, count = plane == ndimage.minimum_filter(plane, footprint=around, mode="nearest"), 0
    regions, number = ndimage.label(low, around)
    edge = np.ones(plane.shape, bool)
    edge[1:-1, 1:-1] = False
    for region in range(1, number + 1):
        inside = regions == region
        ring = ndimage.binary_dilation(inside, around) & ~inside
        count += not (inside & edge).any() and (plane[ring] > plane[inside].min()).all()
    return int(count)


def flat_share(plane):
    """The share of the points of a sampled plane at which the loss is at most FLAT above that of its middle.
    plane: float (n, n), n odd."""
    return float(np.mean(plane <= plane[plane.shape[0] // 2, plane.shape[1] // 2] + FLAT))
