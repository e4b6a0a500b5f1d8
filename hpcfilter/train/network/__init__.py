"""A model on its device, and what it sees of the samples."""

from hpcfilter.train.network.columns import Columns
from hpcfilter.train.network.device import device_of as _device
from hpcfilter.train.network.network import Features, Network, seed_of
from hpcfilter.train.network.trial import try_training

__all__ = ["Columns", "Features", "Network", "_device", "seed_of", "try_training"]
