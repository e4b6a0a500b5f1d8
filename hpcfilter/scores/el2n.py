"""EL2N, the error L2 norm (Paul, Ganguli, Dziugaite: Deep learning on a data diet, arXiv 2107.07075)."""

import torch


def el2n(output, target, losses):
    """importance = ||softmax(z) - onehot(y)||_2, in [0, sqrt 2]. output: logits (b, C); target: int64 (b,). Returns (b,)."""
    error = torch.softmax(output, dim=1)
    error[torch.arange(len(target), device=target.device), target] -= 1
    return error.norm(dim=1)


el2n.needs_classes = True
