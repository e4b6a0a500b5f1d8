"""What augmentation draws for each sample, a function of (seed, epoch, index): how far it moves, whether it
is mirrored, which part of it is cut out.

It is always drawn on the host. Who moves the pixels may be another: a tuple of here holds the images and what
was drawn for them, travels with them, and `made` gives the images that the network is to see.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from hpcfilter.base.randomness import uniform

# Szegedy et al., arXiv 1409.4842, section 6: a patch of 8 % to 100 % of the area, and 3/4 to 4/3 wide
AREA, RATIO = 0.08, 3 / 4
TRIES = 10  # boxes that are drawn; the first that fits into the image counts


class Shifted(NamedTuple):
    """Images that are to be moved, then mirrored. Arrays or tensors."""

    images: Any  # (b, H, W[, C])
    down: np.ndarray  # int64 (b,): output row i is input row i + down; zeros come in
    right: np.ndarray  # int64 (b,)
    mirrored: np.ndarray  # bool (b,)

    def made(self):
        """The images, a tensor where they are. All fields are tensors there."""
        from hpcfilter.data import pixels

        return pixels.shifted(*self)


class Cropped(NamedTuple):
    """Images of which a box is to be stretched to their size, then mirrored. Arrays or tensors."""

    images: Any  # (b, H, W[, C])
    boxes: np.ndarray  # float32 (b, 4): left, top, width, height, in pixels
    mirrored: np.ndarray  # bool (b,)

    def made(self):
        """The images, a tensor where they are. All fields are tensors there."""
        from hpcfilter.data import pixels

        return pixels.cropped(*self)


DRAWN = Shifted, Cropped


def offsets(index, seed, epoch, pad):
    """How far each sample moves down and right. Returns two arrays int64 (b,), -pad to pad."""
    return (uniform(seed, epoch, index, 2, "shift") * (2 * pad + 1)).astype(np.int64).T - pad


def mirrored(index, seed, epoch, flip=True):
    """Which samples are mirrored left to right, bool (b,): about every second; none unless `flip`."""
    if not flip:
        return np.zeros(len(index), bool)
    return uniform(seed, epoch, index, 1, "flip")[:, 0] < 0.5


def boxes(index, seed, epoch, height, width, area=AREA):
    """The box of each sample: its share of the area uniform in [area, 1], the logarithm of its width over its
    height uniform in [log 3/4, log 4/3], its place uniform among those inside. Not in whole pixels.

    Where ten boxes do not fit, the largest of an allowed form in the corner that was drawn. Returns
    float32 (b, 4): left, top, width, height, in pixels.
    """
    drawn = uniform(seed, epoch, index, 2 * TRIES + 2, "crop")
    pixels = height * width * (area + (1 - area) * drawn[:, :TRIES])
    form = np.exp(math.log(RATIO) * (1 - 2 * drawn[:, TRIES : 2 * TRIES]))
    wide, high = np.sqrt(pixels * form), np.sqrt(pixels / form)
    fits = (wide <= width) & (high <= height)
    each, first = np.arange(len(wide)), fits.argmax(axis=1)
    wide, high, fits = wide[each, first], high[each, first], fits.any(axis=1)
    wide = np.where(fits, wide, min(width, height / RATIO))
    high = np.where(fits, high, min(height, width / RATIO))
    left, top = (width - wide) * drawn[:, -2], (height - high) * drawn[:, -1]
    return np.stack([left, top, wide, high], axis=1).astype(np.float32)


def draw_shift(images, labels, index, seed, epoch, *, pad, flip):
    """(Shifted, labels) of a batch whose pixels are moved later. images: (b, H, W[, C])."""
    down, right = offsets(index, seed, epoch, pad)
    return Shifted(images, down, right, mirrored(index, seed, epoch, flip)), labels


def draw_crop(images, labels, index, seed, epoch, *, area, flip):
    """(Cropped, labels) of a batch whose pixels are moved later. images: (b, H, W[, C])."""
    box = boxes(index, seed, epoch, *images.shape[1:3], area)
    return Cropped(images, box, mirrored(index, seed, epoch, flip)), labels
