"""A few small nets. A factory takes (inputs, outputs) and keyword-only parameters, which are
its config schema.

inputs: shape of one sample as the net sees it, (channels, height, width) for images. outputs: number of
classes, or of target values. The user's own comes by `model.factory = "package.module:callable"`. torch is
imported where a net is made: what may stand in [model] is known without it.
"""

import functools
import itertools
import math

from hpcfilter.base.errors import InputError, OwnCode
from hpcfilter.base.own import a, call, code, imported, name_of, place
from hpcfilter.base.registry import bind, choose
from hpcfilter.base.shares import Count

FACTORY = "a factory: called as (inputs, outputs, *, keys of [model]), it returns a torch.nn.Module"


def _convolution(inputs, outputs, stride=1, size=3):
    """Convolution without bias, and its batch normalisation."""
    from torch import nn

    return [nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)]


def cnn(inputs, outputs, *, width: Count = 16):
    """Three stages of 3x3 convolution, 2x2 max-pooling, batch normalisation, ReLU, with width, 2 width
    and 4 width channels."""
    from torch import nn

    channels, height, columns = inputs
    stages = []
    for stage in range(3):
        convolution, normalisation = _convolution(channels, width * 2**stage)
        # pooled first: a quarter of the work for what follows
        stages += [convolution, nn.MaxPool2d(2), normalisation, nn.ReLU()]
        channels = width * 2**stage
    return nn.Sequential(*stages, nn.Flatten(), nn.Linear(channels * (height // 8) * (columns // 8), outputs))


def mlp(inputs, outputs, *, hidden: Count = 256, depth: Count = 2):
    """`depth` hidden layers of `hidden` units with ReLU, on flattened samples of any shape."""
    from torch import nn

    sizes = [math.prod(inputs)] + [hidden] * depth
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], outputs))


@functools.cache
def _block():
    """The class of the basic residual block of He et al., arXiv 1512.03385, figure 5 left."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.body = nn.Sequential(*_convolution(inputs, outputs, stride), nn.ReLU(),
                                      *_convolution(outputs, outputs))
            same = stride == 1 and inputs == outputs
            self.skip = (nn.Identity() if same
                         else nn.Sequential(*_convolution(inputs, outputs, stride, size=1)))

        def forward(self, x):
            return nn.functional.relu(self.body(x) + self.skip(x))

    return Block


def resnet18(inputs, outputs, *, width: Count = 64):
    """ResNet-18 for small images: a 3x3 stem without pooling (arXiv 1512.03385, section 4.2), 11.2
    million weights at width 64."""
    from torch import nn

    blocks, channels = [], width
    for stage in range(4):
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            blocks.append(_block()(channels, width * 2**stage, stride))
            channels = width * 2**stage
    return nn.Sequential(*_convolution(inputs[0], width), nn.ReLU(), *blocks,
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs))


def autoencoder(inputs, outputs, *, width: Count = 16, latent: Count = 64):
    """A small convolutional autoencoder: two 3x3 convolutions of stride 2, `latent` numbers, and back by
    upsampling. For loss = "reconstruction"."""
    from torch import nn

    channels, *size = inputs
    half = [-(-side // 2) for side in size]
    quarter = [-(-side // 2) for side in half]
    flat = 2 * width * math.prod(quarter)
    encoder = [*_convolution(channels, width, 2), nn.ReLU(), *_convolution(width, 2 * width, 2), nn.ReLU(),
               nn.Flatten(), nn.Linear(flat, latent)]
    decoder = [nn.Linear(latent, flat), nn.ReLU(), nn.Unflatten(1, (2 * width, *quarter)),
               nn.Upsample(tuple(half)), *_convolution(2 * width, width), nn.ReLU(),
               nn.Upsample(tuple(size)), nn.Conv2d(width, channels, 3, padding=1)]
    return nn.Sequential(*encoder, *decoder)


# pixels of the height and width of the images that they are for
cnn.smallest, resnet18.smallest, autoencoder.smallest = 8, 1, 4
autoencoder.makes_samples = True  # its output is as large as its input

MODELS = {"cnn": cnn, "mlp": mlp, "resnet18": resnet18, "autoencoder": autoencoder}


def find_model(name, factory):
    """The function or class that `model.factory`, or else `model.name`, names. Raises InputError."""
    return imported(factory, "model.factory") if factory else choose(MODELS, name, "model.name")


def check_model(name, factory, parameters, inputs=None, outputs=None):
    """What the table [model] names and the values of all its keys: (function, dict). Nothing is made, and
    ours need no torch for it.

    inputs, outputs: as of a factory; None when nothing is known of the data. Raises InputError.
    """
    function = find_model(name, factory)
    if not callable(function):
        raise OwnCode(f"model.factory: got {a(function)}, expected {FACTORY}")
    values, smallest = bind(function, parameters, "model"), getattr(function, "smallest", None)
    if inputs and smallest and len(inputs) != 3:
        raise InputError(f"model: {function.__name__} cannot be made for inputs {inputs} and {outputs} "
                         "outputs: expected images (channels, height, width); if the rows are images, "
                         "pack them with --layout HW or HWC")
    if inputs and smallest and min(inputs[1:]) < smallest:
        raise InputError(f"model: {function.__name__} cannot be made for inputs {inputs} and {outputs} "
                         f"outputs: expected images of at least {smallest} x {smallest}")
    return function, values


def build(name, factory, parameters, inputs, outputs):
    """Make the model that the table [model] describes. Returns nn.Module, all of whose parameters have a
    shape. Raises InputError when it cannot be made for these inputs."""
    from torch import nn

    function, values = check_model(name, factory, parameters, inputs, outputs)
    model = call(f"model: {name_of(function)} cannot be made for inputs {inputs} and {outputs} outputs",
                 FACTORY, function, inputs, outputs, **values)
    if not isinstance(model, nn.Module):
        raise OwnCode(f"model: {name_of(function)} returned {a(model)}, "
                      f"expected a torch.nn.Module{place(function)}")
    _settle(model, inputs, function)
    return model


def _settle(model, inputs, function):
    """Have lazy layers take their shape from a forward pass, before anybody counts the parameters."""
    import torch
    from torch.nn.parameter import is_lazy

    def lazy():
        return [name for name, tensor in [*model.named_parameters(), *model.named_buffers()]
                if is_lazy(tensor)]

    if lazy():
        modes = {module: module.training for module in model.modules()}
        with code(f"model: {name_of(function)} has lazy layers, which cannot take their shape from "
                  f"inputs {inputs}"), torch.no_grad():
            model.eval()(torch.zeros(2, *inputs))
        for module, training in modes.items():
            module.training = training
    if left := lazy():
        raise OwnCode(f"model: {left[0]} of {name_of(function)} is lazy, and no forward pass in eval mode "
                      f"gives it a shape{place(function)}")
