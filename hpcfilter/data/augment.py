"""Augmentation as a function of (seed, epoch, index): the same sample looks the same on any number of ranks.

Each function takes (images (b, H, W[, C]), labels, index int64 (b,), seed, epoch) and returns images and
labels of the same shapes. Of ours there are two each: one that moves the pixels at once, on the host, and one
of data.drawn that draws alone, for pixels that are moved where the network is.
"""

from functools import partial

import numpy as np

from hpcfilter.base.errors import InputError, OwnCode
from hpcfilter.base.own import a, check_call, code, imported, name_of, place
from hpcfilter.base.registry import choose
from hpcfilter.data.drawn import AREA, draw_crop, draw_shift, mirrored, offsets


def shift(images, labels, index, seed, epoch, *, pad):
    """Move each image by up to `pad` pixels up or down and left or right; zeros come in."""
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), (pad, pad), (pad, pad)] + [(0, 0)] * (images.ndim - 3))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    down, right = offsets(index, seed, epoch, pad) + pad
    moved = windows[np.arange(len(images)), down, right]  # (b[, C], H, W)
    return np.ascontiguousarray(np.moveaxis(moved, 1, -1) if images.ndim == 4 else moved), labels


def shift_flip(images, labels, index, seed, epoch, *, pad):
    """`shift`, and about every second image mirrored left to right."""
    images, labels = shift(images, labels, index, seed, epoch, pad=pad)
    turned = mirrored(index, seed, epoch)
    images[turned] = images[turned][:, :, ::-1]
    return images, labels


def resized_crop(images, labels, index, seed, epoch, *, area=AREA, flip=False):
    """Stretch a box of each image, drawn by its area and its form, to the image's size (Szegedy et al., arXiv
    1409.4842, section 6). area: the least share of the image's. flip: mirror about every second one."""
    from hpcfilter.data import pixels  # needs torch, whose bilinear sampling is the same on a GPU

    return pixels.on_host(draw_crop(images, labels, index, seed, epoch, area=area, flip=flip)[0]), labels


# name -> (what moves the pixels at once, what only draws, the parameter of both)
AUGMENTATIONS = {"shift": (shift, partial(draw_shift, flip=False), "pad"),
                 "shift_flip": (shift_flip, partial(draw_shift, flip=True), "pad"),
                 "resized_crop": (resized_crop, partial(draw_crop, flip=False), "area"),
                 "resized_crop_flip": (partial(resized_crop, flip=True), partial(draw_crop, flip=True),
                                       "area")}

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


def moved_late(data, gpu):
    """Whether the pixels of this [data] are moved where the network is, and only drawn for in the read-ahead.

    data: data.schema.Data. gpu: whether the network is on one.
    """
    ours = data.augment != "none" and ":" not in data.augment
    return ours and (data.augment_on == "device"
                     or (data.augment_on == "auto" and (gpu or data.resident)))


def augmentation(data, dataset, late=False):
    """The function that `data.augment` names, or None for "none", and where there is no `dataset` yet.

    data: data.schema.Data. late: whether it is to draw alone, as `moved_late` says; the images that it
    returns are then a tuple of data.drawn. Raises InputError for an unknown name, and for one of ours on rows
    that are not images or whose targets would have to move along.
    """
    name = data.augment
    if name == "none":
        return None
    if ":" in name:
        return _own(imported(name, "data.augment"), len(dataset.classes) if dataset else 0)
    at_once, draw, parameter = choose({**AUGMENTATIONS, "none": None}, name, "data.augment")
    if dataset is None:
        return None
    if not dataset.layout or not dataset.classes:
        raise InputError(f"data.augment: '{name}' is for images with class labels; {dataset.path} has rows "
                         f"of shape {dataset.train.images.shape[1:]} and {dataset.target}; "
                         "give none or package.module:function")
    height = dataset.train.images.shape[1]
    if parameter == "pad" and data.shift is not None and data.shift >= height:
        raise InputError(f"data.shift: got {data.shift} pixels for images of height {height}, "
                         "expected fewer than that")
    value = ((height // 8 if data.shift is None else data.shift) if parameter == "pad"
             else AREA if data.crop is None else data.crop)
    return partial(draw if late else at_once, **{parameter: value})
