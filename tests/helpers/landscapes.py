"""What the tests of a probe share: short runs to probe, models and a loss whose landscape is known, and how
to compare what was found."""

import numpy as np
import torch
from torch import nn

from hpcfilter.comm import SerialComm
from hpcfilter.pack.pack import pack
from hpcfilter.study.landscape import Options
from hpcfilter.study.landscape.curvature import TOLERANCE
from hpcfilter.study.landscape.probe import _Probe
from hpcfilter.train import checkpoint
from hpcfilter.train.config import load
from hpcfilter.train.run import train

QUICK = {"batch": 512, "samples": 150, "points": 5, "directions": 2, "grid": 3, "eigenvalues": 3, "probes": 4}


def linear(inputs, outputs):
    """A model whose mean squared error is a quadratic function of its weights."""
    return nn.Linear(inputs[0], outputs)


class Frozen(nn.Module):
    """Only the last layer trains, and one weight is never used."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.last, self.idle = (nn.Linear(inputs[1] * inputs[2], 8), nn.Linear(8, outputs),
                                            nn.Parameter(torch.ones(2, 3)))
        self.first.requires_grad_(False)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x.flatten(1))))


def absolute():
    """A loss that is linear in the weights of a linear model, nearly everywhere."""
    return lambda output, target: (output - target).abs().mean(dim=1)


def runs_in(folder, digits, regression):
    """A function (name) -> the folder of a short run, which its first call trains in FOLDER and no test may
    change. a and b differ in their seed; quadratic is of a linear model; everything, of the policy none;
    single has one number as target."""
    one_number = folder / "single.h5"
    x = np.random.default_rng(1).normal(size=(100, 3)).astype(np.float32)
    np.savez(folder / "single.npz", x=x, y=x.sum(1))
    pack(folder / "single.npz", one_number, regression=True)
    kinds = {"a": (digits, 3, 'name = "cnn"\nwidth = 4', 'policy = "kakurenbo"\nfraction = 0.3\ntau = 0.2'),
             "b": (digits, 4, 'name = "cnn"\nwidth = 4', 'policy = "kakurenbo"\nfraction = 0.3\ntau = 0.2'),
             "infobatch": (digits, 3, 'name = "mlp"\nhidden = 8', 'policy = "infobatch"'),
             "single": (one_number, 3, 'factory = "landscapes:linear"', 'policy = "none"'),
             "everything": (digits, 3, 'name = "mlp"\nhidden = 8', 'policy = "none"'),
             "frozen": (digits, 3, 'factory = "landscapes:Frozen"', 'policy = "none"'),
             "quadratic": (regression, 3, 'factory = "landscapes:linear"',
                           'policy = "random"\nfraction = 0.3')}

    def make(name):
        if not (folder / name).exists():
            packed, seed, model, policy = kinds[name]
            (folder / f"{name}.toml").write_text(f'seed = {seed}\n[data]\npath = "{packed}"\n[model]\n'
                                                 f'{model}\n[filter]\n{policy}\n'
                                                 "[train]\nepochs = 2\nglobal_batch = 60\n[optim]\nlr = 0.1\n"
                                                 "[schedule]\nwarmup_epochs = 0\n")
            train(folder / f"{name}.toml", folder / name, SerialComm())
        return folder / name

    return make


def unmeasured(run, **options):
    """The probe of a run folder, before it measures anything."""
    path, stamp = checkpoint.of_epoch(run)
    return _Probe(load(run / "config.toml"), path, stamp, Options(**{"batch": 512, **options}), SerialComm())


def same(one, other, rtol=0.0):
    """Whether two dicts of numbers, arrays and dicts are equal, floats up to rtol."""
    assert set(one) == set(other)
    for name, value in one.items():
        if isinstance(value, dict):
            same(value, other[name], rtol)
        elif isinstance(value, str | list):
            assert value == other[name], name
        elif name == "residuals" and rtol:  # are rounding
            assert (len(value) == len(other[name])
                    and max(*value, *other[name]) < TOLERANCE * max(one["eigenvalues"]))
        else:
            np.testing.assert_allclose(other[name], value, rtol, 1e-6 * (rtol > 0), err_msg=name)
