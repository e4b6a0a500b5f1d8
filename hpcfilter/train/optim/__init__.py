"""How gradients move weights: optimisers, learning rate and batch size over the epochs, and how
noisy the gradients are."""

from hpcfilter.train.optim.noise import NoiseScale
from hpcfilter.train.optim.optimisers import check_remade, make_optimizer, unused
from hpcfilter.train.optim.schedule import batch_size, learning_rate, rate_ratios, set_rate

__all__ = ["NoiseScale", "batch_size", "check_remade", "learning_rate", "make_optimizer", "rate_ratios",
           "set_rate", "unused"]
