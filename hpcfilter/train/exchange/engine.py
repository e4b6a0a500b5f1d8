"""The library that carries gradients: what an exchange needs of one, and what one process does without."""

from abc import ABC, abstractmethod


class Engine(ABC):
    """A library that adds up gradients, and gives weights to all ranks. Nothing is started before it is used.

    comm: comm.Comm. deterministic: sums in the same order in every run on as many ranks. name: as
    [exchange] engine has it. why: why it was chosen, in words. over: what its messages take, in words, known
    once it is connected. means: whether its sums are always means.
    """

    name, why, over = "", "", ""
    means = False

    def __init__(self, comm, deterministic=False):
        self.comm, self.deterministic = comm, deterministic

    @abstractmethod
    def connect(self, model, optimizer, op, compression):
        """Have the gradients of all ranks brought together during the backward pass. op: "Sum", "Average" or
        "Adasum". Returns the optimizer to use: same groups, no state. All ranks must call."""

    @abstractmethod
    def release(self, optimizer):
        """Undo `connect`, so that another optimizer can take its place."""

    @abstractmethod
    def backward(self, loss, model):
        """The backward pass that begins the messages. loss: tensor ()."""

    @abstractmethod
    def finish(self, optimizer):
        """Wait until the gradients of all ranks are there; also of ranks without a `backward` in this
        step. All ranks must call."""

    @abstractmethod
    def step(self, optimizer):
        """`optimizer.step()` after `finish`."""

    @abstractmethod
    def broadcast(self, model):
        """Give rank 0's parameters and buffers to all ranks, in place. All ranks must call."""

    @abstractmethod
    def sum(self, tensor, name):
        """Sum over the ranks, the way gradients are added up. tensor: floating-point, on the device of the
        run. name: the same on all ranks. Returns a new tensor. All ranks must call."""


class Alone(Engine):
    """One process: nothing is to be agreed on, and every sum is what it was."""

    name, why = "none", "one process has nothing to add up"

    def connect(self, model, optimizer, op, compression):
        return optimizer

    def release(self, optimizer):
        pass

    def backward(self, loss, model):
        loss.backward()

    def finish(self, optimizer):
        pass

    def step(self, optimizer):
        optimizer.step()

    def broadcast(self, model):
        pass

    def sum(self, tensor, name):
        return tensor.clone()
