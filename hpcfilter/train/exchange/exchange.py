"""What an exchange does for the loop."""

from abc import ABC, abstractmethod


class Exchange(ABC):
    """How the ranks come to agree on network weights.

    comm: the ranks. engine: the library that carries gradients. equal_after_step: whether all ranks hold the
    same weights after every step; if not, only after `settle`. scale_to_mean: a rank's gradient times this is
    the mean over its own samples. batches: how many batches a step brings together like one of their size;
    the learning rate is that of the global batch divided by it.
    """

    equal_after_step = True
    scale_to_mean, batches = 1, 1
    compression = "none"

    def __init__(self, comm, engine):
        self.comm, self.engine = comm, engine

    @abstractmethod
    def prepare(self, model, optimizer):
        """Have the gradients of all ranks added up during the backward pass. Returns the optimizer to
        use: same groups, no state."""

    @abstractmethod
    def divisor(self, batch):
        """What this rank's sum of weighted losses is divided by. batch: select.order.Batch. Returns float."""

    def release(self, optimizer):
        """Undo `prepare`, so that another optimizer can take its place."""
        self.engine.release(optimizer)

    def broadcast(self, model):
        """Give rank 0's parameters and buffers to all ranks, in place. All ranks must call."""
        self.engine.broadcast(model)

    def backward(self, loss, model, last):
        """Backward pass of a part of this rank's loss, tensor (). The messages begin with the last part.

        The gradients of the others are added up without the hooks that begin the messages.
        """
        if last:
            self.engine.backward(loss, model)
        else:
            accumulate(loss, model)

    def finish(self, optimizer):
        """Wait until the gradients of all ranks are there; also of ranks that had no sample in this
        step. All ranks must call."""
        self.engine.finish(optimizer)

    def step(self, optimizer):
        """`optimizer.step()` after `finish`."""
        self.engine.step(optimizer)

    def settle(self, model, share):
        """Make all ranks equal at the end of an epoch: weights, where a step does not, and the buffers
        that a state dict holds.

        Floating-point buffers (the statistics of BatchNorm) become their mean, others rank 0's. share: this
        rank's weight, of 1 in all. All ranks must call.
        """
        if self.comm.size == 1:
            return
        kept = model.state_dict()
        for name, buffer in model.named_buffers():
            if name in kept and buffer.is_floating_point():
                buffer.copy_(self.engine.sum(buffer * share, f"buffer.{name}"))
            elif name in kept:
                buffer.copy_(buffer.new_tensor(self.comm.bcast(buffer.cpu().numpy())))

    def state(self):
        """What a checkpoint must keep of it, a dict of tensors and numbers."""
        return {}

    def restore(self, state):
        """Put back what `state` gave. Raises KeyError for the state of another kind."""
        if set(state) != set(self.state()):
            raise KeyError(f"exchange: got a state of {sorted(state)}, expected {sorted(self.state())}")

    def bytes(self, model):
        """Bytes of gradients that one rank hands over in a step."""
        halved = 1 if self.compression == "none" else 2
        return sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad) // halved


def accumulate(loss, model):
    """Add the gradients of a loss to those that are there, as loss.backward() does, but without the
    hooks that begin messages."""
    import torch

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True),
                                   strict=True):
        if gradient is not None and parameter.grad is None:
            # in the layout of the parameter, which Horovod insists on
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        elif gradient is not None:
            parameter.grad.add_(gradient)
