"""ExtrapSGD: take the gradient a little way off, where the loss is smoother, and step from here (Lin et al.,
arXiv 2006.05720, algorithm 1).

    w' = w - e * d        on each rank for itself, no message
    w <- w - rate * mean over the ranks of the gradient at w'

d is the mean gradient over the rank's own samples, of the step before (`past`) or at w (`fresh`, a second
pass, in which BatchNorm takes note and dropout draws once more); or Gaussian noise of the length that the
past gradient has in each tensor (`noise`). e = distance * the step's learning rate of the parameter's group,
which is a long way with LARS, whose rates are for scaled gradients. Losses and scores are those at w'.
"""

from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from hpcfilter.train.passes.plain import Wrapper

# of the model: buffers are what each rank has for itself inside an epoch, and a checkpoint keeps
BUFFER = "past_gradient"


class Extrapolate(Wrapper):
    """The way off and back of one rank. With distance 0 the steps are those without it, bit for bit.

    direction: past, fresh or noise. distance: how far to step aside, as a multiple of the learning
    rate. The model gets one more buffer as large as itself that its state dict does not hold, but for
    `fresh`; a checkpoint inside an epoch keeps that of every rank.
    """

    def __init__(self, inner, model, exchange, ratios, *,
                 direction: Literal["past", "fresh", "noise"] = "past",
                 distance: Annotated[float, Field(ge=0)] = 1.0):
        super().__init__(inner, model, exchange, ratios)
        self._direction = {"past": self._past, "fresh": self._fresh, "noise": self._noise}[direction]
        self._distance, self._scale = distance, exchange.scale_to_mean
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._model, self._kept, self._hooks = model, None, []
        self._of_ratio = {}  # ratio -> positions of the parameters that have it
        for position, parameter in enumerate(self._parameters):
            self._of_ratio.setdefault(ratios.get(parameter, 1.0), []).append(position)
        self._past_counts = direction != "fresh"
        if self._past_counts:
            self._watch()

    def _watch(self):
        """Have the gradients of each step, part by part, noted in the buffer."""
        import torch

        size, device = sum(parameter.numel() for parameter in self._parameters), self._parameters[0].device
        self._model.register_buffer(BUFFER, torch.zeros(size, device=device), persistent=False)
        for parameter, place in zip(self._parameters, self._places(), strict=True):
            self._hooks.append(parameter.register_hook(partial(_add, place)))

    def release(self):
        for hook in self._hooks:
            hook.remove()
        if self._past_counts:
            delattr(self._model, BUFFER)
        super().release()

    def begin_epoch(self):
        self._forget()
        super().begin_epoch()

    def __call__(self, step, parts):
        self._away(step, parts)
        self.inner(step, parts)
        self._back()

    def _places(self):
        """Views into the buffer, one per parameter and of its shape."""
        parts = getattr(self._model, BUFFER).split([parameter.numel() for parameter in self._parameters])
        return [part.view(parameter.shape) for part, parameter in zip(parts, self._parameters, strict=True)]

    def _forget(self):
        """There is no past gradient, as before the first step of an epoch."""
        if self._past_counts:
            getattr(self._model, BUFFER).zero_()

    def _away(self, step, parts):
        """Move the weights to w'."""
        import torch

        direction = self._direction(step, parts) if self._distance else []
        with torch.no_grad():
            self._kept = [parameter.clone() for parameter in self._parameters]
            for ratio, places in self._of_ratio.items() if direction else ():
                moved, ways = ([tensors[place] for place in places]
                               for tensors in (self._parameters, direction))
                torch._foreach_add_(moved, ways, alpha=-self._distance * (step.rate * ratio) * self._scale)
        self._forget()  # the gradients of this step, part by part, are the past of the next

    def _back(self):
        """Bring the weights back to w; the gradients stay those at w'."""
        import torch

        with torch.no_grad():
            torch._foreach_copy_(self._parameters, self._kept)
        self._kept = None

    def _past(self, step, parts):
        return self._places()

    def _fresh(self, step, parts):
        import torch

        total = [torch.zeros_like(parameter) for parameter in self._parameters]
        for x, y, weight in parts:  # not backward(): its hooks would begin the sum over the ranks
            loss = (step.losses(x, y) * weight).sum()
            torch._foreach_add_(total, torch.autograd.grad(loss, self._parameters, allow_unused=True,
                                                           materialize_grads=True))
        return total

    def _noise(self, step, parts):
        import torch

        generator = torch.Generator(device=self._parameters[0].device).manual_seed(step.seed)
        places = self._places()
        noise = [torch.randn(place.shape, generator=generator, device=place.device) for place in places]
        lengths, wanted = torch._foreach_norm(noise), torch._foreach_norm(places)
        torch._foreach_mul_(noise, [want / length for want, length in zip(wanted, lengths, strict=True)])
        return noise


def _add(place, gradient):
    place.add_(gradient)  # and nothing is returned, which would take the gradient's place
