"""How far the predicted probabilities are from the label, and what that does to the last layer (Paul,
Ganguli, Dziugaite: Deep learning on a data diet, arXiv 2107.07075, section 2)."""

from hpcfilter.select.scores.score import Score


def _error(output, target):
    """softmax(z) - onehot(y). Returns (b, C)."""
    import torch

    error = torch.softmax(output, dim=1)
    error[torch.arange(len(target), device=target.device), target] -= 1
    return error


class EL2N(Score):
    """importance = ||softmax(z) - onehot(y)||_2, in [0, sqrt 2], the last one. The paper takes it early, as a
    mean over several runs. Memory: none.
    """

    needs_classes = True

    def look(self, output, target, losses, features):
        return _error(output, target).norm(dim=1)


class GraNd(Score):
    """importance = ||gradient of the cross entropy with respect to the last linear layer||_2 = ||softmax(z) -
    onehot(y)||_2 * ||(h, 1)||_2.

    h goes into that layer; the 1 stands for its bias, if it has one. The gradient is an outer
    product, so its norm is that of the two factors, and no backward pass is needed. The paper's GraNd
    takes all layers. Memory: none.
    """

    needs_classes = True
    needs_features = True

    def look(self, output, target, losses, features):
        return _error(output, target).norm(dim=1) * features.norm(dim=1)


class Confidence(Score):
    """importance = 1 - softmax(z)[y]: high where the network is unsure of the label. Memory: none."""

    needs_classes = True

    def look(self, output, target, losses, features):
        return 1 - output.softmax(dim=1).gather(1, target[:, None])[:, 0]
