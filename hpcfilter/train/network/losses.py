"""Losses: functions (output, target) -> one value per sample, (b,)."""

from torch.nn import functional

from hpcfilter.base.errors import InputError, OwnCode
from hpcfilter.base.own import a, call, imported, place
from hpcfilter.train.checks import loss_name

FACTORY = "a factory: called as (), it returns the function (output, target) that gives one value per sample"


def cross_entropy(output, target, label_smoothing=0.0):
    """Cross entropy of each sample. output: logits (b, C); target: int64 (b,). Returns (b,)."""
    return functional.cross_entropy(output, target, reduction="none", label_smoothing=label_smoothing)


def mse(output, target):
    """Squared error of each sample, mean over its values. output: any shape with as many values as target
    (b, ...). Returns (b,). Raises InputError for another number of values."""
    if output.numel() != target.numel():
        raise InputError(f"model: got outputs of shape {tuple(output.shape)}, expected as many values as the "
                         f"targets have, {tuple(target.shape)}")
    return (output.reshape(target.shape) - target).square().reshape(len(target), -1).mean(dim=1)


def make_loss(table, classes):
    """The loss function that `loss.name` names. classes: how many, 0 for other targets. Raises InputError."""
    name = loss_name(table, classes)
    if ":" in name:
        factory = imported(name, "loss.name")
        loss = call("loss.name", FACTORY, factory)
        if not callable(loss) or isinstance(loss, type):
            raise OwnCode(f"loss.name: {name} returned {a(loss)}, expected {FACTORY}{place(factory)}")
        return loss
    if name == "cross_entropy":
        return lambda output, target: cross_entropy(output, target, table.label_smoothing)
    return mse
