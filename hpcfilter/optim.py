"""The optimiser and its learning rate."""

import math

import torch


def sgd(model, train):
    """SGD with Nesterov momentum (torch's). train: the table [train]. Returns the optimizer, its rate still to be set."""
    return torch.optim.SGD(model.parameters(), lr=0.0, momentum=train.momentum, nesterov=train.momentum > 0, weight_decay=train.weight_decay)


def learning_rate(train, global_batch, progress, epochs):
    """The learning rate after `progress` of `epochs` epochs, a float that counts parts of an epoch.

    Linear scaling rule with gradual warm-up (Goyal et al., arXiv 1706.02677, sections 2.1 and 2.2): the peak is
    lr * global_batch / lr_batch, reached in a straight line from lr over warmup_epochs; then the schedule of the remaining epochs.
    """
    peak = train.lr * (global_batch / train.lr_batch if train.lr_scaling == "linear" else 1.0)
    if progress < train.warmup_epochs:
        start = min(train.lr, peak)
        return start + (peak - start) * progress / train.warmup_epochs
    if train.schedule == "cosine":
        rest = max(epochs - train.warmup_epochs, 1e-9)
        return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - train.warmup_epochs) / rest)))
    if train.schedule == "step":
        return peak * train.gamma ** sum(progress >= milestone * epochs for milestone in train.milestones)
    return peak
