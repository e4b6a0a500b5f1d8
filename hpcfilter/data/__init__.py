"""The only speaker of h5py: open, own, read, prefetch. No torch and no communication here."""

import os

# before h5py is imported: no filter plug-in is ever loaded on behalf of a file
os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")

from hpcfilter.base.shard import begin, edges, shard
from hpcfilter.data.augment import augmentation, moved_late
from hpcfilter.data.packed import Dataset, Split, is_packed, open_packed
from hpcfilter.data.probed import Probe, read_probe, write_probe
from hpcfilter.data.reader import read_batches
from hpcfilter.data.selection import read_given
from hpcfilter.data.table import read_table, write_table

__all__ = [
    "Dataset", "Probe", "Split", "augmentation", "begin", "edges", "is_packed", "moved_late", "open_packed",
    "read_batches", "read_given", "read_probe", "read_table", "shard", "write_probe", "write_table",
]
