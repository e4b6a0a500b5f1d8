"""What a data set must be able to do: read samples by index, and say what it is."""

from typing import Protocol

import numpy as np


class Rows(Protocol):
    """A data set, or one split of it, read by index.

    Inputs and targets are arrays or tensors (b, ...), or trees of them: dicts, tuples and lists.
    digest: hex digest of the content, which a checkpoint must match. row_bytes: bytes of one
    sample, without its target.
    """

    digest: str
    row_bytes: int

    def __len__(self) -> int: ...

    def rows(self, index: np.ndarray) -> tuple:
        """(inputs, targets) of samples, in the order given. index: int64 (b,)."""

    def labels_of(self, owned: range) -> np.ndarray | None:
        """The classes of a block of samples, int64 (n,); None for targets that are no classes."""
