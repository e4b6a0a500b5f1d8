"""The way of rows to the device beside the computing: out of pinned memory, on a stream of its own."""

import torch

from hpcfilter.base.trees import each, leaves
from hpcfilter.train.network.device import module_of, sent


def copies_of(device):
    """The Copies of a device, or None for the CPU, where rows are already."""
    return None if device.type == "cpu" else Copies(device)


class Copies:
    """Begun by the read-ahead thread, waited for by the computing, and never by a thread: the next batches
    are on their way while this one computes.

    device: torch.device, the current one of the thread that makes this.
    """

    def __init__(self, device):
        self._device, self._module = device, module_of(device)
        self._stream = self._module.Stream()

    def begin(self, tree):
        """Begin to copy a tree of arrays and tensors. Returns (the tree on the device, a mark for `arrived`).

        A thread of its own begins on the first GPU, and would make itself at home there.
        """
        self._module.set_device(self._device)
        with self._module.stream(self._stream):
            there = each(lambda part: sent(part, self._device), tree)
            mark = self._module.Event()
            mark.record()
        return there, mark

    def arrived(self, tree, mark):
        """Have what is computed from here on wait until a tree of `begin` is there, and keep its memory from
        being used again before that has been computed."""
        mark.wait()
        stream = self._module.current_stream()
        for part in leaves(tree):
            if isinstance(part, torch.Tensor) and not part.is_cpu:
                part.record_stream(stream)
