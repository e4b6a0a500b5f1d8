"""What a batch of a script shows of its samples."""

import numpy as np
import torch

from hpcfilter.base.errors import InputError


def shown(losses, output, target, score, policy):
    """What a batch shows of its samples. losses: (b,). output: logits (b, C), target: labels (b,), read where
    a policy is named, which needs them.

    Returns name -> tensor (b,), of COLUMNS. Raises InputError for logits and labels that are
    missing or do not fit.
    """
    if policy is None:
        return score.measure(losses, target, losses, None, classes=False)
    if output is None or target is None:
        raise InputError(f"Filter: {policy} with the score {score.name} needs logits and labels: "
                         "loss(losses, index, output, target)")
    if output.ndim != 2 or target.shape != losses.shape or target.is_floating_point():
        raise InputError(f"Filter: got an output of shape {tuple(output.shape)} and {target.dtype} targets "
                         f"of shape {tuple(target.shape)}, expected logits ({len(losses)}, "
                         f"classes) and integers ({len(losses)},)")
    return score.measure(output.float(), target, losses)


def indices(index, total):
    """The indices of a batch as int64 (b,). Raises InputError unless all are of the data set."""
    index = np.asarray(index.cpu() if isinstance(index, torch.Tensor) else index)
    if index.ndim != 1 or (index.dtype.kind not in "iu" and len(index)):
        raise InputError(f"Filter: index: got {index.dtype} of shape {index.shape}, expected integers of "
                         "shape (batch,)")
    if len(index) and not (0 <= index.min() and index.max() < total):
        raise InputError(f"Filter: index: got {index.min()} to {index.max()}, expected 0 to {total - 1}, "
                         "the data set's own")
    return index.astype(np.int64)
