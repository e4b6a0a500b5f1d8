"""How a batch becomes gradients. A pass wraps a pass: the plain one is innermost, and a table
[pass.NAME] puts another around it.

A new pass is a class made from `Wrapper` in one file, and an entry in PASSES, in the order of wrapping: the
innermost first. The keyword-only parameters of its constructor are the keys of its table. torch is imported
where there are tensors: what may stand in [pass] is known without it.
"""

from hpcfilter.base.registry import bind, choose
from hpcfilter.train.passes.extrapolate import Extrapolate
from hpcfilter.train.passes.micro import Micro
from hpcfilter.train.passes.plain import Plain, Wrapper

__all__ = ["PASSES", "Plain", "Wrapper", "make_passes", "passes_of"]

PASSES = {"extrapolate": Extrapolate, "micro": Micro}


def passes_of(tables):
    """The passes that [pass.NAME] tables name: list of (class, its parameters), the innermost
    first. Raises InputError.

    tables: name -> its keys.
    """
    for name in tables:
        choose(PASSES, name, "pass")
    return [(kind, bind(kind, tables[name], f"pass.{name}"))
            for name, kind in PASSES.items() if name in tables]


def make_passes(tables, model, exchange, ratios):
    """The pass of a run, outermost. model: torch module. exchange: train.exchange.Exchange. ratios: parameter
    -> its part of the learning rate, where that is not all of it. Raises InputError."""
    made = Plain()
    for kind, parameters in passes_of(tables):
        made = kind(made, model, exchange, ratios, **parameters)
    return made
