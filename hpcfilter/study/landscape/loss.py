"""The mean loss over a set of samples as a function of the weights, with its gradient and its Hessian. In
eval mode; sums are float64."""

from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from hpcfilter.base.alive.pulse import beat
from hpcfilter.base.errors import InputError
from hpcfilter.base.shard import shard

LOOK_BATCH = 512  # samples of a forward pass, at most, unless the user says how many
LOOKS = 4  # times as many go forward as a rank trains in a step, as in the evaluations of training
DOUBLES = 8  # times fewer than go forward keep their graph to be differentiated twice


def batch_of(config, ranks):
    """How many samples go forward at once where nobody says it: what has fit into memory in training.
    config: train.Config. ranks: of the run."""
    own = config.train.batch or -(-config.train.global_batch // ranks)
    return min(LOOK_BATCH, LOOKS * min(own, config.micro_batch or own))


@contextmanager
def within_memory(batch):
    """What does not fit into the memory of the GPU becomes an InputError. batch: samples of a forward
    pass, for the message."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(f"probe: --batch: {batch} samples do not fit into memory, give fewer: "
                         f"{' '.join(str(error).split())[:200]}") from None


class Loss:
    """The mean loss over some training samples, at the weights that the network has at the time.

    index: int64 (n,), global indices, the same on all ranks; each rank has a block of them, `mine`.
    weights: Weights. batch: of a forward pass. What is called `shared` and the derivatives are sums over the
    ranks, and all of them must call.
    """

    def __init__(self, network, split, index, weights, batch, comm):
        self._network, self._split, self._weights, self._comm = network, split, weights, comm
        self._batch, self._double = batch, max(1, batch // DOUBLES)
        self.index = index
        owned = shard(len(index), comm.rank, comm.size)
        self.mine = index[owned.start : owned.stop]

    @property
    def names(self):
        """What a look at the loss gives: loss, and where there are classes error, the share
        of wrong predictions."""
        return ("loss", "error") if self._network.classes else ("loss",)

    def alone(self):
        """The values of `names` over the whole set, by this rank alone. Returns float64 (1,) or (2,)."""
        return self._totals(self.index) / len(self.index)

    def shared(self):
        """The same, each rank over its own samples."""
        return self._comm.sum(self._totals(self.mine)) / len(self.index)

    def _totals(self, index):
        # added up where the losses are: a GPU is not waited for in every batch
        totals = torch.zeros(len(self.names), dtype=torch.float64, device=self._network.device)
        for (output, losses), y in self._network.forward_all(self._split, index, self._batch):
            found = [losses.sum(dtype=torch.float64),
                     *([(output.argmax(dim=1) != y).sum().double()] if self._network.classes else [])]
            totals += torch.stack(found)
        return totals.cpu().numpy()

    def gradient(self):
        """The gradient. Returns float64 (size of the weights,)."""
        return self._comm.sum(self._sum(lambda parts: parts)) / len(self.index)

    def product(self, vector):
        """The Hessian times a vector. vector: float64 (size,), the same on all ranks.
        Returns the same shape."""
        return self._comm.sum(self._product(vector)) / len(self.index)

    def curve(self, vector):
        """v^T H v of a vector v. vector: float64 (size,), the same on all ranks. Returns float."""
        return float(self._comm.sum(vector @ self._product(vector))) / len(self.index)

    def try_out(self):
        """Differentiate twice over a full batch. Raises InputError for a model of which that cannot be had,
        before the ranks wait for each other.

        Backwards through the whole graph: where only the weights are asked for, a function that is
        differentiable once passes for a constant.
        """
        parameters, network = self._weights.parameters, self._network
        try:
            with sdpa_kernel(SDPBackend.MATH):
                losses = network.forward(*network.tensors(*self._split.rows(self.index[: self._double])))[1]
                parts = torch.autograd.grad(losses.sum(), parameters, create_graph=True, allow_unused=True,
                                            materialize_grads=True)
                along = sum(part.sum() for part in parts)
                if along.requires_grad:
                    along.backward()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise InputError("probe: the model cannot be differentiated twice: "
                             f"{' '.join(str(error).split())[:300]}") from None
        finally:
            for parameter in parameters:
                parameter.grad = None

    def _product(self, vector):
        """This rank's part of n times the Hessian, times a vector: the gradient of the gradient's projection
        on it, without the matrix (Pearlmutter, Fast exact multiplication by the Hessian, 1994)."""
        step = self._weights.split(vector)

        def again(parts):
            along = sum((part * side).sum() for part, side in zip(parts, step, strict=True))
            if not along.requires_grad:  # a loss that is linear in the weights
                return [torch.zeros_like(part) for part in parts]
            return torch.autograd.grad(along, self._weights.parameters, allow_unused=True,
                                       materialize_grads=True)

        return self._sum(again, twice=True)

    def _sum(self, make, twice=False):
        """Add up over this rank's samples what `make` makes of the gradient of a batch's
        summed loss (list of tensors).

        twice: whether it differentiates again. Returns float64 (size,).
        """
        parameters, network = self._weights.parameters, self._network
        total = torch.zeros(self._weights.size, dtype=torch.float64, device=network.device)
        for start in range(0, len(self.mine), self._double):
            beat()
            x, y = network.tensors(*self._split.rows(self.mine[start : start + self._double]))
            with sdpa_kernel(SDPBackend.MATH):  # the faster kinds of attention cannot be differentiated twice
                losses = network.forward(x, y)[1]
                parts = make(torch.autograd.grad(losses.sum(), parameters, create_graph=twice,
                                                 allow_unused=True, materialize_grads=True))
            total += torch.cat([part.detach().reshape(-1) for part in parts])
        return total.cpu().numpy()
