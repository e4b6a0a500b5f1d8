"""ExtrapSGD: take the gradient a little way off, where the loss is smoother, and step from here (Lin et al., arXiv 2006.05720, algorithm 1).

    w' = w - e * d        on each rank for itself, no message
    w <- w - rate * mean over the ranks of the gradient at w'

d is the mean gradient over the rank's own samples, of the step before (`past`) or at w (`fresh`, a second pass, in which BatchNorm takes note and
dropout draws once more); or Gaussian noise of the length that the past gradient has in each tensor (`noise`). e = extrapolation * the step's
learning rate of the parameter's group, which is a long way with LARS, whose rates are for scaled gradients. Losses and scores are those at w'.
"""

from functools import partial

import torch

from hpcfilter.base.registry import choose

BUFFER = "past_gradient"  # of the model: buffers are what each rank has for itself inside an epoch, and a checkpoint keeps


class Extrapolation:
    """The way off and back of one rank. With factor 0 the steps are those without it, bit for bit."""

    def __init__(self, model, kind, factor, share, ratios=None):
        """model: torch module, gets one more buffer as large as itself that its state dict does not hold, but for `fresh`; a checkpoint inside an
        epoch keeps that of every rank. kind: past, fresh or noise. factor: e / rate. share: times which a rank's gradient is the mean over its own
        samples. ratios: parameter -> its part of the rate, where that is not all of it."""
        self._direction = choose({"past": self._past, "fresh": self._fresh, "noise": self._noise}, kind, "train.extrapolate")
        self._factor, self._share = factor, share
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._model, self._kept = model, None
        self._of_ratio = {}  # ratio -> positions of the parameters that have it
        for position, parameter in enumerate(self._parameters):
            self._of_ratio.setdefault((ratios or {}).get(parameter, 1.0), []).append(position)
        self._past_counts = kind != "fresh"
        if self._past_counts:
            size, device = sum(parameter.numel() for parameter in self._parameters), self._parameters[0].device
            model.register_buffer(BUFFER, torch.zeros(size, device=device), persistent=False)
            for parameter, place in zip(self._parameters, self._places(), strict=True):
                parameter.register_hook(partial(_add, place))

    def _places(self):
        """Views into the buffer, one per parameter and of its shape."""
        parts = getattr(self._model, BUFFER).split([parameter.numel() for parameter in self._parameters])
        return [part.view(parameter.shape) for part, parameter in zip(parts, self._parameters, strict=True)]

    def start(self):
        """There is no past gradient, as before the first step of an epoch."""
        if self._past_counts:
            getattr(self._model, BUFFER).zero_()

    def away(self, rate, losses, seed):
        """Move the weights to w'. rate: of this step. losses: functions () -> scalar whose sum is this rank's part of the loss, for `fresh`.
        seed: of the step and rank, for `noise`."""
        direction = self._direction(losses, seed) if self._factor else []
        with torch.no_grad():
            self._kept = [parameter.clone() for parameter in self._parameters]
            for ratio, places in self._of_ratio.items() if direction else ():
                moved, ways = ([tensors[place] for place in places] for tensors in (self._parameters, direction))
                torch._foreach_add_(moved, ways, alpha=-self._factor * (rate * ratio) * self._share)
        self.start()  # the gradients of this step, part by part, are the past of the next

    @torch.no_grad()
    def back(self):
        """Bring the weights back to w; the gradients stay those at w'."""
        torch._foreach_copy_(self._parameters, self._kept)
        self._kept = None

    def _past(self, losses, seed):
        return self._places()

    def _fresh(self, losses, seed):
        total = [torch.zeros_like(parameter) for parameter in self._parameters]
        for loss in losses:  # not backward(): its hooks would begin the sum over the ranks
            torch._foreach_add_(total, torch.autograd.grad(loss(), self._parameters, allow_unused=True, materialize_grads=True))
        return total

    def _noise(self, losses, seed):
        generator = torch.Generator(device=self._parameters[0].device).manual_seed(seed)
        places = self._places()
        noise = [torch.randn(place.shape, generator=generator, device=place.device) for place in places]
        lengths, wanted = torch._foreach_norm(noise), torch._foreach_norm(places)
        torch._foreach_mul_(noise, [want / length for want, length in zip(wanted, lengths, strict=True)])
        return noise


def _add(place, gradient):
    place.add_(gradient)  # and nothing is returned, which would take the gradient's place
