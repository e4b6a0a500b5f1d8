"""The logit margin, whose mean over epochs is AUM (Pleiss et al., arXiv 2001.10528). A small margin is a hard sample."""

import torch


def margin(output, target, losses):
    """importance = max_{c != y} z_c - z_y, the negative margin. output: logits (b, C), C > 1; target: int64 (b,). Returns (b,)."""
    own = output.gather(1, target[:, None])[:, 0]
    others = output.scatter(1, target[:, None], -torch.inf)
    return others.max(dim=1).values - own


margin.needs_classes = True
