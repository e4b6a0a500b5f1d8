"""The gradient noise scale: up to which batch size more samples per step still pay."""

import numpy as np
import torch


class NoiseScale:
    """tr(Sigma) / |G|^2 of an epoch (McCandlish et al., arXiv 1812.06162, appendix A.1), from
    gradients that are there anyway.

    The two batch sizes that the estimate needs are a rank's part of the batch and the whole of it. The ranks'
    squared norms are added up in one message per epoch. Needs two ranks or more.
    """

    def __init__(self, model, scale):
        """model: torch module, whose gradients are watched from now on as they are before the sum over the
        ranks. scale: a rank's gradient times this is the mean over its own samples."""
        self._scale = scale
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._hooks = [parameter.register_hook(self._see) for parameter in self._parameters]
        self._start()

    def release(self):
        """Watch no longer."""
        for hook in self._hooks:
            hook.remove()

    def _start(self):
        self._own = self._whole = torch.zeros((), dtype=torch.float64)
        self._steps = 0

    def _see(self, gradient):
        self._own = self._own.to(gradient.device) + gradient.detach().double().square().sum()

    @torch.no_grad()
    def step(self):
        """After the sums over the ranks are there, and before they are used."""
        norms = torch.stack(torch._foreach_norm([parameter.grad for parameter in self._parameters
                                                 if parameter.grad is not None]))
        self._whole = self._whole.to(norms.device) + norms.double().square().sum()
        self._steps += 1

    def take(self, comm, batch):
        """What the steps since the last call say. batch: samples in a global batch, of `comm.size` equal
        parts. All ranks must call.

        Returns a dict: steps; noise_scale, samples, None when it cannot be told from so few; gradient, the
        estimate of |G|^2; variance, of tr(Sigma).
        """
        own, whole = (float(value) for value in comm.sum(np.array([float(self._own), float(self._whole)])))
        steps = self._steps
        self._start()
        if not steps:
            return {"steps": 0, "noise_scale": None, "gradient": None, "variance": None}
        small, large = self._scale**2 * own / comm.size / steps, whole / comm.size / steps
        part = batch / comm.size
        gradient = (batch * large - part * small) / (batch - part)
        variance = (small - large) / (1 / part - 1 / batch)
        known = gradient > 0 and variance > 0
        return {"steps": steps, "noise_scale": variance / gradient if known else None, "gradient": gradient,
                "variance": variance}
