"""Augmentation as a function of (seed, epoch, index): the same sample looks the same on any number of ranks.

Each function takes (images (b, H, W[, C]), labels, index int64 (b,), seed, epoch) and returns images and
labels of the same shapes.
"""

from functools import partial

import numpy as np

from hpcfilter.base.errors import InputError, OwnCode
from hpcfilter.base.own import a, check_call, code, imported, name_of, place
from hpcfilter.base.randomness import uniform
from hpcfilter.base.registry import choose


def shift(images, labels, index, seed, epoch, *, pad):
    """Move each image by up to `pad` pixels up or down and left or right; zeros come in."""
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), (pad, pad), (pad, pad)] + [(0, 0)] * (images.ndim - 3))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    down, right = (uniform(seed, epoch, index, 2, "shift") * (2 * pad + 1)).astype(np.int64).T
    moved = windows[np.arange(len(images)), down, right]  # (b[, C], H, W)
    return np.ascontiguousarray(np.moveaxis(moved, 1, -1) if images.ndim == 4 else moved), labels


def shift_flip(images, labels, index, seed, epoch, *, pad):
    """`shift`, and about every second image mirrored left to right."""
    images, labels = shift(images, labels, index, seed, epoch, pad=pad)
    mirrored = uniform(seed, epoch, index, 1, "flip")[:, 0] < 0.5
    images[mirrored] = images[mirrored][:, :, ::-1]
    return images, labels


AUGMENTATIONS = {"shift": shift, "shift_flip": shift_flip}


FORM = "(images, labels, index, seed, epoch), which returns images and labels of the same shapes"


def _own(function, classes):
    """An augmentation of the user's own, whose mistakes become an OwnCode. classes: how many the labels
    have, 0 for other targets."""
    check_call("data.augment", FORM, function, *[None] * 5)

    def augment(images, labels, index, seed, epoch):
        shapes = images.shape, labels.shape
        with code("data.augment", True, function):
            pair = function(images, labels, index, seed, epoch)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise OwnCode(f"data.augment: {name_of(function)} returned {a(pair)}, expected two, "
                          f"images and labels{place(function)}")
        return tuple(_array(function, *part, classes)
                     for part in zip(("images", "labels"), pair, shapes, strict=True))

    return augment


def _array(function, what, given, shape, classes):
    """What an augmentation has returned, as an array that torch can take, of the shape of
    what it was given."""
    with code("data.augment", True, function):
        array = np.ascontiguousarray(given)  # torch cannot step backwards
    if array.shape != shape or array.dtype.kind not in "biuf":
        got = f"of shape {array.shape}" if array.shape != shape else f"of type {array.dtype}"
        raise OwnCode(f"data.augment: {name_of(function)} returned {what} {got}, expected numbers of shape "
                      f"{shape}{place(function)}")
    if (what == "labels" and classes and array.size
            and not (array.dtype.kind in "iu" and 0 <= array.min() and array.max() < classes)):
        raise OwnCode(f"data.augment: {name_of(function)} returned labels of type {array.dtype} from "
                      f"{array.min()} to {array.max()}, expected whole numbers from 0 to "
                      f"{classes - 1}{place(function)}")
    return array


def augmentation(name, dataset, pad=None):
    """The function that `data.augment` names, or None for "none", and where there is no `dataset` yet.
    pad: pixels to shift by, default an eighth of the height.

    Raises InputError for an unknown name, and for one of ours on rows that are not images or whose targets
    would have to move along.
    """
    if name == "none":
        return None
    if ":" in name:
        return _own(imported(name, "data.augment"), len(dataset.classes))
    function = choose({**AUGMENTATIONS, "none": None}, name, "data.augment")
    if dataset is None:
        return None
    if not dataset.layout or not dataset.classes:
        raise InputError(f"data.augment: '{name}' is for images with class labels; {dataset.path} has rows "
                         f"of shape {dataset.train.images.shape[1:]} and {dataset.target}; "
                         "give none or package.module:function")
    height = dataset.train.images.shape[1] if dataset else None
    if height and pad is not None and pad >= height:
        raise InputError(f"data.shift: got {pad} pixels for images of height {height}, "
                         "expected fewer than that")
    return partial(function, pad=dataset.train.images.shape[1] // 8 if pad is None else pad)
