"""How the weights move: optimisers, learning rate and batch size over the epochs, extrapolation, and how noisy the gradients are."""

from hpcfilter.optim.extrapolation import Extrapolation
from hpcfilter.optim.gradients import accumulate, clip
from hpcfilter.optim.noise import NoiseScale
from hpcfilter.optim.optimisers import check_remade, make_optimizer, unused
from hpcfilter.optim.schedule import batch_size, learning_rate, rate_ratios, set_rate

__all__ = ["Extrapolation", "NoiseScale", "accumulate", "batch_size", "check_remade", "clip", "learning_rate", "make_optimizer", "rate_ratios",
           "set_rate", "unused"]
