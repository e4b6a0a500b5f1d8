"""The training loss itself: the importance that KAKURENBO, InfoBatch and Selective-Backprop rank by."""


def loss(output, target, losses):
    """importance = loss_i. losses: (b,) tensor, one value per sample. Returns (b,). Works for any target."""
    return losses


loss.needs_classes = False
