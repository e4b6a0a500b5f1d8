"""The optimisers of torch, LARS and LAMB from pytorch-optimizer, or the user's own."""

import inspect

import torch
from torch.optim import Optimizer

from hpcfilter.base.errors import InputError, OwnCode
from hpcfilter.base.own import a, call, check_call, code, imported, name_of, place
from hpcfilter.base.registry import choose

FORM = "a factory: called as (model, optim), it returns a torch.optim.Optimizer; or a class of optimisers"
TORCHS = {name.lower(): kind for name, kind in vars(torch.optim).items()
          if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer}
# of pytorch-optimizer, and the keys of [optim] that they take
LARGE = {"lars": {"momentum", "trust", "weight_decay"}, "lamb": {"weight_decay"}}
UNFIT = {"lbfgs": "calls the loss again and again within a step, which a step of many ranks cannot",
         "sparseadam": "is for sparse gradients only, which no model has here"}


def make_optimizer(model, optim):
    """The optimiser that `optim.name` names, its rate still to be set. Horovod makes a new one of the same
    class from its parameter groups, so each class must have its settings by itself.

    sgd: Nesterov momentum. lars: You et al., arXiv 1708.03888, equation 6, with Nesterov momentum; vectors
    (biases, BatchNorm) neither decay nor are scaled. lamb: You et al., arXiv 1904.00962, algorithm 2 without
    its bias corrections, which the scaling to the length of the weights cancels but for their part in the
    decay; all parameters decay, and of the length of their weights at most 10 counts. Any other class of
    torch.optim by its name in lower case, with `momentum` and `weight_decay` where it has them, and
    `options`. package.module:name: such a class, or a factory, called with (model, optim); the optimiser's
    class must be one that parameter groups alone make. Raises InputError.
    """
    name, made = optim.name, _find(optim.name)
    if name in LARGE:
        kind = _lars(optim) if name == "lars" else _lamb(optim)
        return kind([parameter for parameter in model.parameters() if parameter.requires_grad])
    if _is_kind(made):
        _check_kind(made)
        options = _options(made, optim)
        given = ", ".join(["the parameters", *(f"{key} = {value}" for key, value in options.items())])
        with code(f"optim.name: {name} cannot be made with {given}", True, made):
            return made(model.parameters(), **options)
    optimizer = call("optim.name", FORM, made, model, optim)
    if not isinstance(optimizer, Optimizer):
        raise OwnCode(f"optim.name: {name} returned {a(optimizer)}, expected {FORM}{place(made)}")
    _check_kind(type(optimizer))
    _check_parameters(optimizer, model, made)
    return optimizer


def unused(optim):
    """Which keys of [optim] that some optimisers have this one has not. Returns key -> why. Raises InputError
    for options that it does not know."""
    keys = "momentum", "trust", "weight_decay", "options"
    made = _find(optim.name)
    if _is_kind(made):
        _check_kind(made)
        _options(made, optim)
        taken = {"options", *inspect.signature(made).parameters}
    else:
        taken = LARGE.get(optim.name, keys)  # a factory of the user's own may read them all
    return {key: f"the optimiser {optim.name} has none" for key in keys if key not in taken}


def _find(name):
    """What `optim.name` names: a class or a factory; None for those of LARGE. Raises InputError."""
    if ":" in name:
        return imported(name, "optim.name")
    known = {known: kind for known, kind in TORCHS.items() if known not in UNFIT or known == name}
    return choose({**known, **dict.fromkeys(LARGE)}, name, "optim.name")


def _is_kind(made):
    return isinstance(made, type) and issubclass(made, Optimizer)


def _options(kind, optim):
    """What a class of optimisers is made with, beside the parameters. Returns name -> value."""
    known = inspect.signature(kind).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        raise OwnCode(f"optim.name: {kind.__name__} does not name its settings; expected some by name, "
                      f"or {FORM.partition(';')[0]}{place(kind)}")
    ours = {"lr": optim.lr, "momentum": optim.momentum, "weight_decay": optim.weight_decay}
    free = [name
            for name in known if name not in {"params", "maximize", "differentiable", "capturable", *ours}]
    for key in optim.options or {}:
        if key not in free:
            raise InputError(f"optim.options.{key}: unknown key; known: {', '.join(free)} (of "
                             f"{kind.__name__}; lr, momentum and weight_decay are keys of [optim])")
    nesterov = {"nesterov": optim.momentum > 0} if optim.name == "sgd" else {}
    given = {key: tuple(value) if isinstance(value, list) else value
             for key, value in (optim.options or {}).items()}
    return {key: value for key, value in ours.items() if key in known} | nesterov | given


def _check_kind(kind):
    """Raise InputError for a class of optimisers whose steps are not those of the loop."""
    if why := UNFIT.get(next((base.__name__.lower()
                              for base in kind.__mro__ if base.__name__.lower() in UNFIT), "")):
        raise InputError(f"optim.name: {kind.__name__} {why}; expected one such as sgd, adamw or lars")
    check_call("optim.name", "an optimiser whose step() needs no closure", kind.step, None)


def _check_parameters(optimizer, model, factory):
    """Raise OwnCode unless a factory's optimiser moves parameters of the model."""
    its = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not any(parameter.requires_grad and id(parameter) in its for parameter in model.parameters()):
        raise OwnCode(f"optim.name: {name_of(factory)} returned an optimiser of {len(its)} parameters, "
                      f"none of which the model trains; expected model.parameters(){place(factory)}")


def check_remade(optimizer, model):
    """Raise OwnCode unless Horovod can make the optimiser anew, from its parameter groups alone, with the
    settings that it has."""
    kind = type(optimizer)
    known = {id(parameter) for parameter in model.parameters()}
    if others := sum(id(parameter) not in known for group in optimizer.param_groups
                     for parameter in group["params"]):
        raise OwnCode("optim.name: on several ranks it can only have parameters of the model; "
                      f"got {others} others{place(kind)}")
    with code(f"optim.name: on several ranks {kind.__name__} must be made of its parameter groups alone, "
              "as Horovod does", True, kind):
        again = vars(kind([dict(group) for group in optimizer.param_groups]))
    for name, value in vars(optimizer).items():
        if isinstance(value, (int, float, str)) and again.get(name) != value:
            raise OwnCode(f"optim.name: on several ranks Horovod makes {kind.__name__} anew of its parameter "
                          f"groups alone, with {name} = {again.get(name)} instead of {value}; "
                          f"expected a class that has its settings by itself, or in its groups{place(kind)}")


def _lars(optim):
    library = _library()

    class LARS(library.LARS):
        def __init__(self, params):
            super().__init__(params, lr=0.0, momentum=optim.momentum, nesterov=optim.momentum > 0,
                             weight_decay=optim.weight_decay, trust_coefficient=optim.trust)

    return LARS


def _lamb(optim):
    library = _library()

    class LAMB(library.Lamb):
        def __init__(self, params):
            # As the algorithm has it, the decay is a part of the update whose length is scaled; the library's
            # own bias correction is not, and would make the first steps ten times as long
            super().__init__(params, lr=0.0, weight_decay=optim.weight_decay, weight_decouple=False,
                             adam_debias=True)

    return LAMB


def _library():
    try:
        import pytorch_optimizer
    except ImportError as error:
        raise InputError(f"optim.name: lars and lamb need pytorch-optimizer ({error}): "
                         "pip install 'hpcfilter[large-batch]'") from None
    return pytorch_optimizer
