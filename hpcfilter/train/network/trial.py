"""What a run will do, tried out before it begins: mistakes of a model, a loss or a score are known at once,
and nothing is left behind."""

import random
from contextlib import contextmanager

import numpy as np
import torch

from hpcfilter.base.errors import InputError, OwnCode
from hpcfilter.base.own import a, code, place
from hpcfilter.base.trees import each, leaves, samples, shape
from hpcfilter.train.network.device import generators_kept


def check_losses(loss, values, count):
    """Raise InputError unless a loss function gives one value per sample. count: of the samples."""
    if not isinstance(values, torch.Tensor):
        raise OwnCode(f"loss.name: returned {a(values)}, expected a tensor of one value per sample, "
                      f"({count},){place(loss)}")
    if values.shape != (count,):
        raise OwnCode(f"loss.name: got values of shape {tuple(values.shape)}, expected one per sample, "
                      f"({count},); " f'the losses of torch give them with reduction="none"{place(loss)}')


def try_training(network, split, index, part, batch, augment=None):
    """One forward and backward pass as a training step makes it, of which no trace is left. Raises
    InputError for what fails.

    split: data.Split. index: int64 (b,), rows of it, two or more. part: samples of this rank in its smallest
    step. batch: the setting that makes them so few, in words. augment: data.augmentation, or None.
    """
    model = network.model
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise OwnCode("model: has no parameter that can be trained; expected some with requires_grad")
    with no_trace(model, network.device):
        images, labels = split.rows(index)
        if augment is not None:
            images, labels = augment(images, labels, index, 0, 0)
        try:
            forward_and_back(network, images, labels, part)
        except torch.OutOfMemoryError as error:
            raise InputError(f"{batch}: {part} samples do not fit into the memory of {network.device} in one "
                             "pass; give pass.micro.samples, or a smaller batch") from error
        except Exception as error:
            if part != 1:
                raise
            # if two are fine, it is the one that is alone
            forward_and_back(network, images, labels, 2)
            raise InputError(f"{batch}, which leaves a rank one sample in a step, and the model needs two, "
                             "as with BatchNorm; give a larger batch, fewer ranks, "
                             "or a model without it") from error


def forward_and_back(network, images, labels, part):
    """A forward and a backward pass over the first `part` rows. Raises OwnCode for what cannot be trained."""
    x, y = network.tensors(*(each(lambda rows: rows[:part], tree) for tree in (images, labels)))
    with code(f"model: fails in training on {samples(x)} samples of shape {shape(x)}"):
        output, losses = network.forward(x, y)
        check_losses(network.loss, losses, samples(x))
        _check_finite(network, x, output, losses)
        if not losses.requires_grad:
            whose, thing = (("loss.name: its values", network.loss) if output.requires_grad
                            else ("model: its outputs", type(network.model).forward))
            raise OwnCode(f"{whose} do not depend on the weights; expected no detach(), no_grad() or plain "
                          f"numbers in between{place(thing)}")
        trained = [parameter for parameter in network.model.parameters() if parameter.requires_grad]
        torch.autograd.grad(losses.sum(), trained, allow_unused=True)


def _check_finite(network, x, output, losses):
    """Raise OwnCode when not one loss is a finite number, naming where the first such values come from. The
    packed rows are all finite."""
    if torch.isfinite(losses).any():
        return
    key, thing = next((key, thing) for key, thing, values in (("data.augment", None, leaves(x)[0]),
                                                              ("model", type(network.model).forward, output),
                                                              ("loss.name", network.loss, losses))
                      if not torch.isfinite(values).all())
    raise OwnCode(f"{key}: gives values that are not finite, before anything is trained; "
                  f"expected numbers{place(thing) if thing else ''}")


@contextmanager
def no_trace(model, device):
    """A block after which weights, buffers, plain attributes of the modules and the generators of random
    numbers are as before."""
    tensors = [(tensor, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers())]
    modules = [(module, {**vars(module), "_buffers": dict(module._buffers)})
               for module in model.modules() if isinstance(module._buffers, dict)]
    numbers = random.getstate(), np.random.get_state()
    try:
        with generators_kept(device):
            yield
    finally:
        for module, attributes in modules:
            vars(module).clear()
            vars(module).update(attributes)
        with torch.no_grad():
            for tensor, value in tensors:
                tensor.copy_(value)
        random.setstate(numbers[0])
        np.random.set_state(numbers[1])
