"""What training has shown of samples, on its way home to their owners."""

import numpy as np
import torch

from hpcfilter.base.errors import InputError
from hpcfilter.select.sampler import batch_means

COLUMNS = {"value": (np.float32, np.nan), "confidence": (np.float32, np.nan), "correct": (np.bool_, False)}  # name -> (type, unknown)


class Seen:
    """Observations of many batches, kept on the device until they are wanted.

    Nothing is communicated by `add`; `settle` is for all ranks. batch_values: whether the value of a sample is the mean over its global batch.
    """

    def __init__(self, batch_values=False):
        self._batch_values, self._batches, self._settled = batch_values, [], []

    def add(self, index, real, columns):
        """index: int64 (b,). real: bool (b,), False where the sample only stood in. columns: name -> tensor (b,), of COLUMNS."""
        self._batches.append((index, real, columns))

    def restore(self, index, columns):
        """Put back what `settle` gave."""
        self._batches, self._settled = [], [(index, columns)]

    def settle(self, comm):
        """All that was observed since the last `clear`, as one. All ranks must call. Returns (int64 (m,), name -> array (m,))."""
        parts = [(index[real], {name: tensor.cpu().numpy()[real] for name, tensor in columns.items()}) for index, real, columns in self._batches]
        index, columns = _joined(parts)
        if self._batch_values:
            steps = int(comm.max(len(parts)))
            step = np.repeat(np.arange(len(parts)), np.array([len(part) for part, _ in parts], np.int64))
            columns["value"] = batch_means(columns["value"], step, steps, comm)
        self.restore(*_joined([*self._settled, (index, columns)]))
        return self._settled[0]

    def clear(self):
        """Forget everything, after it has gone home."""
        self._batches, self._settled = [], []


def shown(losses, output, target, score, policy):
    """What a batch shows of its samples. losses: (b,). output: logits (b, C), target: labels (b,), read where a policy is named, which needs them.

    Returns name -> tensor (b,), of COLUMNS. Raises InputError for logits and labels that are missing or do not fit.
    """
    if policy is None:
        return score.observe(losses, target, losses, None, classes=False)
    if output is None or target is None:
        raise InputError(f"Filter: {policy} with the score {score.name} needs logits and labels: loss(losses, index, output, target)")
    if output.ndim != 2 or target.shape != losses.shape or target.is_floating_point():
        raise InputError(f"Filter: got an output of shape {tuple(output.shape)} and {target.dtype} targets of shape {tuple(target.shape)}, "
                         f"expected logits ({len(losses)}, classes) and integers ({len(losses)},)")
    return score.observe(output.float(), target, losses)


def _joined(rows):
    """[(index, columns)] as one, with all of COLUMNS."""
    columns = {name: np.concatenate([np.zeros(0, dtype), *(part.get(name, np.full(len(index), unknown)) for index, part in rows)]).astype(dtype)
               for name, (dtype, unknown) in COLUMNS.items()}
    return np.concatenate([np.zeros(0, np.int64), *(index for index, _ in rows)]).astype(np.int64), columns


def indices(index, total):
    """The indices of a batch as int64 (b,). Raises InputError unless all are of the data set."""
    index = np.asarray(index.cpu() if isinstance(index, torch.Tensor) else index)
    if index.ndim != 1 or (index.dtype.kind not in "iu" and len(index)):
        raise InputError(f"Filter: index: got {index.dtype} of shape {index.shape}, expected integers of shape (batch,)")
    if len(index) and not (0 <= index.min() and index.max() < total):
        raise InputError(f"Filter: index: got {index.min()} to {index.max()}, expected 0 to {total - 1}, the data set's own")
    return index.astype(np.int64)
