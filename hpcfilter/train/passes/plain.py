"""The innermost pass, and what those around it have in common."""


class Plain:
    """Forward and backward, part by part. The last backward pass begins the exchange."""

    def begin_epoch(self):
        """Before the first step of an epoch."""

    def release(self):
        """Leave the model as it was, so that other passes can take the place of these."""

    def __call__(self, step, parts):
        """Turn the samples of a step into gradients.

        step: train.step.Step. parts: list of (x, y, weight), tensors or trees of them (b, ...); weight (b,),
        of which the sum of weight * loss over all parts is this rank's part of the loss.
        """
        for number, (x, y, weight) in enumerate(parts, 1):
            losses = step.forward(x, y)
            step.backward((losses * weight).sum(), last=number == len(parts))


class Wrapper(Plain):
    """A pass around another one."""

    def __init__(self, inner, model, exchange, ratios):
        """inner: the pass that it wraps. model, exchange, ratios: as of `make_passes`."""
        self.inner = inner

    def begin_epoch(self):
        self.inner.begin_epoch()

    def release(self):
        self.inner.release()

    def __call__(self, step, parts):
        self.inner(step, parts)
