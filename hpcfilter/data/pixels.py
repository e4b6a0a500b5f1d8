"""Augmentation of images that are tensors, on the CPU or a GPU: what was drawn for a batch is done to all its
images at once."""

import numpy as np
import torch


def on_host(drawn):
    """The images of a tuple of data.drawn whose fields are arrays, as an array."""
    return type(drawn)(*(torch.from_numpy(np.ascontiguousarray(part)) for part in drawn)).made().numpy()


def shifted(images, down, right, mirrored):
    """Move each image by whole pixels, zeros come in; then mirror some left to right. The bits are those of
    the numpy functions of data.augment.

    images: (b, H, W[, C]), any type. down, right: int64 (b,). mirrored: bool (b,). Returns the same shape.
    """
    count, height, width = images.shape[:3]
    # one more row and column, of zeros, stands for all that is outside; only copies, which all types know
    framed = images.new_zeros(count, height + 1, width + 1, *images.shape[3:])
    framed[:, :height, :width] = images
    row = torch.arange(height, device=images.device) + down[:, None]
    column = _columns(images, mirrored) + right[:, None]
    row, column = (torch.where((place >= 0) & (place < length), place, length)
                   for place, length in ((row, height), (column, width)))
    each = torch.arange(count, device=images.device)[:, None, None]
    return framed[each, row[:, :, None], column[:, None, :]]


def cropped(images, boxes, mirrored):
    """Stretch a box of each image to the image's size, bilinearly, without smoothing before a box is made
    smaller; then mirror some left to right. Images of whole numbers are rounded to whole numbers.

    images: (b, H, W[, C]), any type. boxes: float32 (b, 4): left, top, width, height, in pixels. mirrored:
    bool (b,). Returns the same shape and type.
    """
    height, width = images.shape[1:3]
    left, top, wide, high = (part[:, None] for part in boxes.unbind(1))
    column = left + (_columns(images, mirrored) + 0.5) * wide / width
    row = top + (torch.arange(height, device=images.device) + 0.5) * high / height
    # -1 and 1 are the outer edges of the outer pixels
    grid = torch.stack(torch.broadcast_tensors((2 * column / width - 1)[:, None, :],
                                               (2 * row / height - 1)[:, :, None]), dim=-1)
    small = images.element_size() <= 2 or images.dtype == torch.float32  # float32 has all its digits
    planes = (images[..., None] if images.ndim == 3 else images).movedim(-1, 1)
    planes = planes.to(torch.float32 if small else torch.float64)
    made = torch.nn.functional.grid_sample(planes, grid.to(planes.dtype), mode="bilinear",
                                           padding_mode="border", align_corners=False)
    made = (made if images.is_floating_point() else made.round_()).to(images.dtype).movedim(1, -1)
    return made[..., 0] if images.ndim == 3 else made


def _columns(images, mirrored):
    """The column that each output column is of, int64 (b, W)."""
    column = torch.arange(images.shape[2], device=images.device)
    return torch.where(mirrored[:, None], column.flip(0), column)
