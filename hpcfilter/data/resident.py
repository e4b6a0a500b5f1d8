"""Training rows that stay on the device: no reading, no copy per step. For data sets that
fit beside the network."""

import numpy as np
import torch

from hpcfilter.base.errors import InputError

SHARE = 0.8  # of the free memory of a GPU that rows may take; the network has its own by then


class ResidentRows:
    """All rows of a split, on a device. Rows are what `data.Split.rows` gives, as tensors there;
    their bytes are the same."""

    def __init__(self, split, device):
        """split: data.Split. device: torch.device. Raises InputError when the rows do not fit, or are of a
        kind that torch does not know."""
        size = split.images.nbytes + split.labels.nbytes
        if (device.type != "cpu"
                and size > SHARE * (free := torch.get_device_module(device).mem_get_info(device)[0])):
            raise InputError(f"data.resident: the training rows take {size / 2**30:.2f} GiB, "
                             f"of which {SHARE * free / 2**30:.2f} GiB fit on {device}")
        try:
            self._images, self._labels = (torch.from_numpy(part).to(device) for part in split.whole())
        except TypeError as error:
            raise InputError(f"data.resident: {error}") from None
        self._split, self.digest, self.row_bytes = split, split.digest, split.row_bytes

    def __len__(self):
        return len(self._split)

    def labels_of(self, owned):
        """As data.Split has it."""
        return self._split.labels_of(owned)

    def rows(self, index):
        """Rows in the order given. index: int64 (b,). Returns (images (b, ...), labels (b, ...)), tensors."""
        # torch, asked from the read-ahead thread, would start a second team of threads
        if self._images.device.type == "cpu":
            return tuple(torch.from_numpy(np.take(part.numpy(), index, axis=0))
                         for part in (self._images, self._labels))
        # out of pinned memory, so that the read-ahead need not wait until the device has done all before
        where = torch.from_numpy(np.asarray(index)).pin_memory().to(self._images.device, non_blocking=True)
        return self._images[where], self._labels[where]
