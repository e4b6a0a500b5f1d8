"""Who trains this epoch: a policy is a pure function (scores, epoch, seed, comm) -> Selection. No files, no torch, no clock.

A policy's keyword-only parameters are its config schema. One that reads class labels says `needs_classes`.
"""

from functools import partial

from hpcfilter.config import bind, choose
from hpcfilter.errors import InputError
from hpcfilter.policies.kakurenbo import kakurenbo
from hpcfilter.policies.none import none
from hpcfilter.policies.random import random
from hpcfilter.policies.selection import Selection
from hpcfilter.policies.static import static

__all__ = ["POLICIES", "Selection", "policy_function"]

POLICIES = {function.__name__: function for function in (none, random, static, kakurenbo)}


def policy_function(name, parameters, dataset, **defaults):
    """The policy that `filter.policy` names, its parameters checked and bound: (scores, epoch, seed, comm) -> Selection.

    defaults: values for parameters of that name that are not given (epochs).
    Raises InputError for an unknown policy or parameter, and when it needs classes that the data set lacks.
    """
    function = choose(POLICIES, name, "filter.policy")
    if function.needs_classes and not dataset.classes:
        free = ", ".join(n for n, f in POLICIES.items() if not f.needs_classes)
        raise InputError(f"filter.policy: {name} needs class labels, {dataset.path} has {dataset.target}; policies without: {free}")
    return partial(function, **bind(function, parameters, "filter", **defaults))
