"""A model on its device, and what it sees of the samples."""

from hpcfilter.train.network.compiled import try_compiled
from hpcfilter.train.network.device import device_of as _device
from hpcfilter.train.network.device import sent
from hpcfilter.train.network.network import Features, Network
from hpcfilter.train.network.trial import try_training

__all__ = ["Features", "Network", "_device", "sent", "try_compiled", "try_training"]
