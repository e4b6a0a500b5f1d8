"""The layout of a row: HW (grey images), HWC (colour images, channels last), or "" (rows go to
the model as they are)."""

import numpy as np

from hpcfilter.base.errors import InputError

BANDS = (1, 3, 4)  # sizes of an axis that are surely channels, where no other axis has them


def layout_of(images, wanted, certain, notes):
    """The layout of the rows of an array-like. wanted: as the user says, or None. certain: as the source
    says, or None. Returns str.

    Guessed where it is certain, which is said for all but bytes. Raises InputError for a layout
    of another number of axes.
    """
    shape = tuple(images.shape[1:])
    if wanted is not None:
        if wanted and len(shape) != len(wanted):
            raise InputError(f"layout: got {wanted} for rows of shape {shape}, expected {len(wanted)} axes")
        return wanted
    if certain is not None:
        return certain
    found = _guess(shape, images.dtype)
    if len(shape) in (2, 3) and images.dtype != np.uint8:
        notes.said.append(f"layout: rows of shape {shape} and type {images.dtype} {_WORDS[found]}; "
                          "--layout HW, HWC or none says otherwise")
    elif len(shape) == 3 and not found and not _channels_first(shape):
        notes.said.append(f"layout: rows of shape {shape} {_WORDS[found]}; --layout HWC says otherwise")
    return found


_WORDS = {"HWC": "are taken for images with channels last (HWC)", "HW": "are taken for grey images (HW)",
          "": "go to the model as they are (none)"}


def _guess(shape, dtype):
    if len(shape) == 2 and dtype == np.uint8:
        return "HW"
    last_alone = len(shape) == 3 and shape[-1] in BANDS and shape[0] not in BANDS and shape[1] not in BANDS
    return "HWC" if last_alone else ""


def _channels_first(shape):
    return shape[0] in BANDS and shape[1] not in BANDS and shape[2] not in BANDS
