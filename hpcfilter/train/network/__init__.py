"""A model on its device, and what it sees of the samples."""

from hpcfilter.network.columns import Columns
from hpcfilter.network.device import device_of as _device
from hpcfilter.network.network import Features, Network, seed_of
from hpcfilter.network.trial import try_training

__all__ = ["Columns", "Features", "Network", "_device", "seed_of", "try_training"]
