"""How others read shuffled rows of an HDF5 file: sample by sample, by sorted batches, and through
the DataLoader of torch."""

import h5py
import numpy as np
from torch.utils.data import DataLoader, Dataset


class Samples(Dataset):
    """A map-style data set over an HDF5 file: sample i is `dset[i]` and its label. Labels
    are read once, as many do.

    The file is opened at the first sample, so that every worker has a handle of its own.
    """

    def __init__(self, path):
        self.path, self.images = path, None
        with h5py.File(path) as file:
            self.labels = file["train/labels"][:]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        if self.images is None:
            self.images = h5py.File(self.path)["train/images"]
        return self.images[index], self.labels[index]


def loader(path, order, batch, workers):
    """A function that reads the rows in the order given through a DataLoader, whose workers
    stay from call to call."""
    loader = DataLoader(Samples(path), batch_size=batch, sampler=order.tolist(), num_workers=workers,
                        persistent_workers=workers > 0)
    return lambda: [len(labels) for _, labels in loader]


def one_by_one(path, parts):
    """Read batches sample by sample."""
    with h5py.File(path) as file:
        data = file["train/images"]
        for part in parts:
            [data[i] for i in part]


def by_sorted_batch(path, parts):
    """Read batches by h5py's fancy indexing, which wants increasing indices."""
    with h5py.File(path) as file:
        data = file["train/images"]
        for part in parts:
            data[np.sort(part)]
