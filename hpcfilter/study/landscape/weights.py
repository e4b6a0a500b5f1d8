"""The weights of a network, which a probe moves and puts back."""

from contextlib import contextmanager

import torch

from hpcfilter.base.errors import BrokenInvariant
from hpcfilter.base.randomness import seed_of


class Weights:
    """The parameters that train, as they were when this was made.

    parameters: list of torch parameters, in the order of the model; a vector over all of them is these, flat,
    end to end. size: of such a vector. digest: hex, of all parameters and buffers.
    """

    def __init__(self, network):
        self._network, self.digest = network, network.digest()
        self._state = {name: tensor.detach().clone() for name, tensor in network.model.state_dict().items()}
        named = [(name, parameter) for name, parameter in network.model.named_parameters()
                 if parameter.requires_grad]
        self.parameters = [parameter for _, parameter in named]
        self._origin = [self._state[name] for name, _ in named]
        self.size = sum(parameter.numel() for parameter in self.parameters)

    @contextmanager
    def moved(self, *steps):
        """Move the weights within the block. steps: (distance, direction), as `direction` or `split`
        gives it; they add up."""
        with self.restored():
            with torch.no_grad():
                for number, (parameter, origin) in enumerate(zip(self.parameters, self._origin, strict=True)):
                    parameter.copy_(sum((float(distance) * step[number] for distance, step in steps), origin))
            yield

    @contextmanager
    def restored(self):
        """Put parameters and buffers back, bit for bit, when the block is over."""
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in self._network.model.state_dict().items():
                    tensor.copy_(self._state[name])

    @contextmanager
    def between(self, other, alpha):
        """Within the block the weights are alpha * these + (1 - alpha) * other. other: state dict of an equal
        model, as `state` gives it.

        Buffers that are numbers lie between those of both; integers, such as counts, are these.
        """
        with self.restored():
            with torch.no_grad():
                for name, tensor in self._network.model.state_dict().items():
                    tensor.copy_(torch.lerp(other[name], self._state[name], float(alpha))
                                 if tensor.is_floating_point() else self._state[name])
            yield

    def state(self):
        """A copy of all parameters and buffers as they are now."""
        return {name: tensor.detach().clone() for name, tensor in self._network.model.state_dict().items()}

    def direction(self, seed, number):
        """A random direction, normalised filter by filter: d_ij <- d_ij / ||d_ij|| * ||w_ij|| (Li et al.,
        arXiv 1712.09913, section 4).

        A filter is what makes one output: a row along the first axis of a weight. Biases and the parameters
        of normalisations, which have one axis, stay where they are. A function of (seed, number), the same on
        all ranks. Returns a list of tensors, one per parameter.
        """
        # of the CPU: the same on every device
        generator = torch.Generator().manual_seed(seed_of(seed, number, "direction"))
        found = []
        for origin in self._origin:
            if origin.ndim < 2:
                found.append(torch.zeros_like(origin))
                continue
            random = torch.randn(origin.shape, generator=generator).to(origin)
            random_length, length = (part.flatten(1).norm(dim=1) for part in (random, origin))
            found.append(random * (length / random_length).reshape(-1, *[1] * (origin.ndim - 1)))
        return found

    def split(self, vector):
        """A vector over all parameters as a list of tensors, one per parameter. vector: float64 (size,)."""
        parts = torch.from_numpy(vector).split([origin.numel() for origin in self._origin])
        return [part.reshape(origin.shape).to(origin)
                for part, origin in zip(parts, self._origin, strict=True)]

    def prove(self, part):
        """Raise BrokenInvariant unless parameters and buffers are what they were. part: what has just moved
        them, for the message."""
        if (digest := self._network.digest()) != self.digest:
            raise BrokenInvariant(f"probe: {part} has left weights of digest {digest}, "
                                  f"expected {self.digest}: a probe leaves no trace")
