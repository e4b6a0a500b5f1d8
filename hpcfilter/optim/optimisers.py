"""SGD from torch, LARS and LAMB from pytorch-optimizer, or the user's own."""

import torch

from hpcfilter.config import imported
from hpcfilter.errors import InputError


def find_optimizer(name):
    """What `train.optimizer` names: the user's own factory, or None for one of ours. Raises InputError."""
    known = "sgd", "lars", "lamb"
    return None if name in known else imported(name, "train.optimizer", known)


def make_optimizer(model, train):
    """The optimiser that `train.optimizer` names, its rate still to be set. Horovod makes a new one of the same class from its parameter groups, so
    each class must have its settings by itself.

    sgd: Nesterov momentum. lars: You et al., arXiv 1708.03888, equation 6, with Nesterov momentum; vectors (biases, BatchNorm) neither decay nor are
    scaled. lamb: You et al., arXiv 1904.00962, algorithm 2 without its bias corrections, which the scaling to the length of the weights cancels but
    for their part in the decay; all parameters decay, and of the length of their weights at most 10 counts. package.module:factory: called with
    (model, train); the optimiser's class must be one that parameter groups alone make. Raises InputError.
    """
    if train.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=0.0, momentum=train.momentum, nesterov=train.momentum > 0, weight_decay=train.weight_decay)
    if train.optimizer in ("lars", "lamb"):
        kind = _lars(train) if train.optimizer == "lars" else _lamb(train)
        return kind([parameter for parameter in model.parameters() if parameter.requires_grad])
    return find_optimizer(train.optimizer)(model, train)


def _lars(train):
    library = _library()

    class LARS(library.LARS):
        def __init__(self, params):
            super().__init__(params, lr=0.0, momentum=train.momentum, nesterov=train.momentum > 0, weight_decay=train.weight_decay,
                             trust_coefficient=train.trust)

    return LARS


def _lamb(train):
    library = _library()

    class LAMB(library.Lamb):
        def __init__(self, params):
            # As the algorithm has it, the decay is a part of the update whose length is scaled; the library's own bias correction is not, and would
            # make the first steps ten times as long
            super().__init__(params, lr=0.0, weight_decay=train.weight_decay, weight_decouple=False, adam_debias=True)

    return LAMB


def _library():
    try:
        import pytorch_optimizer
    except ImportError as error:
        raise InputError(f"train.optimizer: lars and lamb need pytorch-optimizer ({error}): pip install 'hpcfilter[large-batch]'") from None
    return pytorch_optimizer
