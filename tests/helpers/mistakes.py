"""What users get wrong in code of their own. Each name is a mistake, but for those that
test_own_code.py calls right."""

from math import prod

import numpy as np
import torch
from torch import nn

from hpcfilter.select.policies import Selection
from hpcfilter.select.scores import Score


class Net(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(prod(inputs), outputs)

    def forward(self, x):
        return self.out(self.layer(x.flatten(1)))

    def out(self, y):
        return y


def variant(out):
    return type(out.__name__, (Net,), {"out": out})


@variant
def a_tuple(self, y):
    return y, y


@variant
def a_dict(self, y):
    return {"logits": y}


@variant
def nothing(self, y):
    pass


@variant
def numbers(self, y):
    return y.argmax(1)


@variant
def few(self, y):
    return y[:, :3]


@variant
def detached(self, y):
    return y.detach()


@variant
def missing_attribute(self, y):
    return self.head(y)


@variant
def missing_key(self, y):
    return {}["logits"]


@variant
def asserts(self, y):
    assert y.shape[1] == 99, "expected 99 classes"


@variant
def pair_in_training(self, y):
    return (y, y) if self.training else y


@variant
def fails_in_training(self, y):
    assert not self.training, "only in training"
    return y


class NoForward(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(prod(inputs), outputs)


class MakesLayersLate(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.outputs = nn.Linear(64, 8), outputs

    def forward(self, x):
        if not hasattr(self, "last"):
            self.last = nn.Linear(8, self.outputs)
        return self.last(self.first(x.flatten(1)))


class LazyAndUnused(Net):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.spare = nn.LazyLinear(3)


def lazy(inputs, outputs):
    """Right: lazy layers take their shape before anybody counts the parameters."""
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(),
                         nn.LazyLinear(outputs))


class Remembers(Net):
    """Right: draws numbers, counts its passes and keeps a running mean, all of which tell a training pass
    that nobody asked for."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.passes, self.norm = 0, nn.BatchNorm1d(outputs)
        self.register_buffer("mean", torch.zeros(outputs))

    def forward(self, x):
        self.passes += self.training
        y = nn.functional.dropout(self.norm(super().forward(x)), 0.3,
                                  self.training) * (1 + 0.01 * self.passes)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * y.detach().mean(0)
        return y + 0.1 * self.mean


def batch_norm(inputs, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(inputs), 6), nn.BatchNorm1d(6), nn.Linear(6, outputs))


def frozen(inputs, outputs):
    return Net(inputs, outputs).requires_grad_(False)


def no_parameters(inputs, outputs):
    return nn.Flatten()


def no_return(inputs, outputs):
    Net(inputs, outputs)


def the_class(inputs, outputs):
    return Net


def raises(inputs, outputs):
    raise KeyError("width")


def by_position(inputs, outputs, hidden=4):
    return Net(inputs, outputs)


def unreadable(inputs, outputs, *, hidden: "Undefined" = 4):  # noqa: F821
    return Net(inputs, outputs)


def no_arguments():
    return nn.Linear(64, 10)


a_number = 3


def mean_loss():
    return nn.CrossEntropyLoss()


def float_loss():
    return lambda output, target: 1.0


def class_loss():
    return nn.CrossEntropyLoss


def detached_loss():
    return lambda output, target: nn.functional.cross_entropy(output.detach(), target, reduction="none")


def third_argument():
    return lambda output, target, weight: output.sum(1)


def loss_itself(output, target):
    return nn.functional.cross_entropy(output, target, reduction="none")


def returns_no_optimizer(model, optim):
    torch.optim.SGD(model.parameters(), lr=0.1)


def of_another_model(model, optim):
    return torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)


def of_no_parameters(model, optim):
    return torch.optim.SGD([], lr=0.1)


def wants_a_closure(model, optim):
    return torch.optim.LBFGS(model.parameters())


class NeedsMore(torch.optim.SGD):
    def __init__(self, params, secret):
        super().__init__(params, lr=0.1)


class Forgetful(torch.optim.SGD):
    """Has a setting that is not in its groups, which Horovod would lose."""

    def __init__(self, params, lr=0.1, factor=1.0):
        super().__init__(params, lr=lr)
        self.factor = factor


def forgetful(model, optim):
    return Forgetful(model.parameters(), factor=2.0)


class FailingStep(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError("no step")


def mirrored(images, labels, index, seed, epoch):
    """Right: steps backwards through memory."""
    return images[:, :, ::-1], labels


def tensors(images, labels, index, seed, epoch):
    """Right: torch's numbers, and more digits than are wanted."""
    return torch.from_numpy(images.astype(np.float64)), torch.from_numpy(labels)


def images_alone(images, labels, index, seed, epoch):
    return images


def fewer_labels(images, labels, index, seed, epoch):
    return images, labels[1:]


def smaller(images, labels, index, seed, epoch):
    return images[:, 1:], labels


def objects(images, labels, index, seed, epoch):
    return images.astype(object), labels


def other_classes(images, labels, index, seed, epoch):
    return images, labels + 1


def soft_labels(images, labels, index, seed, epoch):
    return images, labels * 0.9


def two_arguments(images, labels):
    return images, labels


def fails_later(images, labels, index, seed, epoch):
    if epoch == 1:
        raise ZeroDivisionError("in the second epoch")
    return images, labels


def no_selection(scores, epoch, seed, comm):
    return np.ones(len(scores.owned), bool)


def one_argument(scores):
    return Selection(np.ones(len(scores.owned), bool))


class MeanScore(Score):
    def look(self, output, target, losses, features):
        return losses.mean()


class BrokenLook(Score):
    def look(self, output, target, losses, features):
        return losses.nonsense


class BrokenMemory(Score):
    def remember(self, memory, value):
        return memory["seen"]
