"""Gradients between the backward pass and the optimiser."""

import torch


def accumulate(loss, model):
    """Add the gradients of a loss to those that are there, as loss.backward() does, but without the hooks that begin the sum over the ranks."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
        if gradient is not None and parameter.grad is None:
            parameter.grad = torch.empty_like(parameter).copy_(gradient)  # in the layout of the parameter, which Horovod insists on
        elif gradient is not None:
            parameter.grad.add_(gradient)


def clip(model, most):
    """Scale the gradients so that their norm is at most `most` (Pascanu et al., arXiv 1211.5063, algorithm 1). Returns the norm before, tensor ()."""
    return torch.nn.utils.clip_grad_norm_(model.parameters(), most)
