"""Learning rate and batch size as functions of the epoch, and what of the rate each parameter group gets."""

import math


def learning_rate(optim, schedule, global_batch, progress, epochs):
    """The learning rate after `progress` of `epochs` epochs, a float that counts parts of an epoch.

    Linear scaling rule with gradual warm-up (Goyal et al., arXiv 1706.02677, sections 2.1 and 2.2): the peak
    is lr * global_batch / lr_batch, reached in a straight line from lr (or warmup_lr) over warmup_epochs;
    then the schedule of the remaining epochs. With lr_scaling = "sqrt" the peak grows with the square root
    (Krizhevsky, arXiv 1404.5997, section 5; You et al., arXiv 1904.00962, for LAMB).

    optim, schedule: the tables of that name. global_batch: samples per step that are wanted at this moment
    (equal steps of an epoch may have less); under a ramp the rate grows with it.
    """
    scale = {"linear": lambda ratio: ratio, "sqrt": math.sqrt, "none": lambda ratio: 1.0}[optim.lr_scaling]
    peak = optim.lr * scale(global_batch / optim.lr_batch)
    if progress < schedule.warmup_epochs:
        start = min(optim.lr, peak) if schedule.warmup_lr is None else schedule.warmup_lr
        return start + (peak - start) * progress / schedule.warmup_epochs
    rest = min(1.0, (progress - schedule.warmup_epochs) / max(epochs - schedule.warmup_epochs, 1e-9))
    if schedule.name == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * rest))
    if schedule.name == "polynomial":
        return peak * (1 - rest) ** schedule.power
    if schedule.name == "step":
        return peak * schedule.gamma ** sum(progress >= milestone * epochs
                                            for milestone in schedule.milestones)
    return peak


def rate_ratios(optimizer):
    """What each parameter group gets of the scheduled rate: its own rate as the optimiser was made,
    over the largest of all groups. Returns list of float within [0, 1], 1 for all where the rates are
    equal or still to be set.

    Ask before anything is scheduled or loaded: then the groups hold other rates.
    """
    rates = [float(group.get("lr") or 0.0) for group in optimizer.param_groups]
    most = max(rates)
    return [rate / most if most else 1.0 for rate in rates]


def set_rate(optimizer, rate, ratios):
    """Set the scheduled learning rate. ratios: of `rate_ratios`; Horovod and a checkpoint leave the
    groups in their order."""
    for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
        group["lr"] = rate * ratio


def batch_size(train, global_batch, epoch):
    """Samples per step in an epoch. epoch: counted since the network began. Returns int,
    `global_batch` after the ramp.

    A ramp grows geometrically from ramp_batch over ramp_epochs (Smith et al., arXiv 1711.00489, raise the
    batch instead of lowering the rate: with lr_scaling = "none" and schedule = "constant").
    """
    if not train.ramp_epochs or epoch >= train.ramp_epochs:
        return global_batch
    return round(train.ramp_batch * (global_batch / train.ramp_batch) ** (epoch / train.ramp_epochs))
