"""Who trains this epoch: a policy is a pure function (scores, epoch, seed, comm) -> Selection. No
files, no torch, no clock.

The state that its docstring speaks of comes on top of the 19 B per sample of every run (importance,
confidence, correct, seen, streak, fresh). A policy's keyword-only parameters are its config schema; what else
must be known of it stands in its decorator (policy.Facts). Epochs are those of its phase. A new policy is a
file and an entry in POLICIES.
"""

import inspect
from functools import partial

from hpcfilter.base.errors import InputError, OwnCode
from hpcfilter.base.own import a, check_call, code, imported, name_of, place
from hpcfilter.base.registry import bind, choose
from hpcfilter.select.policies.bls import bls
from hpcfilter.select.policies.ccs import ccs
from hpcfilter.select.policies.dyn_unc import dyn_unc
from hpcfilter.select.policies.es import es
from hpcfilter.select.policies.forget import forget
from hpcfilter.select.policies.guards import guarded
from hpcfilter.select.policies.infobatch import infobatch
from hpcfilter.select.policies.kakurenbo import kakurenbo
from hpcfilter.select.policies.none import none
from hpcfilter.select.policies.policy import facts_of, policy
from hpcfilter.select.policies.random import random
from hpcfilter.select.policies.rho import rho
from hpcfilter.select.policies.selection import Selection
from hpcfilter.select.policies.selective_backprop import selective_backprop
from hpcfilter.select.policies.seta import seta
from hpcfilter.select.policies.static import static
from hpcfilter.select.policies.two_sided import two_sided

FORM = "(scores, epoch, seed, comm, *, keys of [filter]), which returns a hpcfilter.Selection"

__all__ = ["POLICIES", "Selection", "check_score", "facts_of", "find_policy", "given_file", "policy",
           "policy_function"]

POLICIES = {function.__name__: function for function in (
    none, random, static, two_sided, kakurenbo, infobatch, seta, bls, selective_backprop, forget, ccs, rho,
    es, dyn_unc)}


def find_policy(name):
    """The function that `filter.policy` names: one of POLICIES, or the user's own as
    package.module:function. Raises InputError."""
    function = imported(name, "filter.policy") if ":" in name else choose(POLICIES, name, "filter.policy")
    if not callable(function):
        raise OwnCode(f"filter.policy: got {a(function)}, expected {FORM}")
    return function


def given_file(name, values, instead=()):
    """The file that a policy works with: (path or None, names of the columns wanted of it).

    values: the policy's parameters. instead: columns that the caller has already. Raises InputError when the
    policy cannot do without.
    """
    facts = facts_of(find_policy(name))
    parameter, columns = facts.given or (None, ())
    path = values.get(parameter)
    if path is None and facts.needs_given and not set(columns) <= set(instead):
        raise InputError(f"filter.{parameter}: missing; expected a table made by hpcfilter, "
                         f"with the column {' and '.join(columns)}")
    return path, columns


def check_score(name, values, guards, score, given=(), before=0):
    """Raise InputError when a policy cannot work with a score. values, guards: parameters of the two.
    given: columns that the caller has already. before: epochs of the phases before it."""
    facts = facts_of(find_policy(name))
    if facts.once(values) and not given:
        if not before:
            raise InputError(f"filter.policy: {name} cuts once, by what earlier epochs have shown; "
                             "expected a phase before its own: [[phase]] epochs = 20, then a [[phase]] with "
                             "this filter")
        if before < score.warmup:
            raise InputError(f"filter.policy: the score {score.name} is known after {score.warmup} epochs, "
                             f"got a cut after {before}; lengthen the phases before this one")
    if score.needs_batches and (guards["noise"] or (facts.own_tail and values["high"])):
        raise InputError(f"score.name: {score.name} is taken while a network trains, so what is hidden as "
                         "too hard could never come back")


def policy_function(name, parameters, classes, labels, target, given=(), **defaults):
    """The policy that `filter.policy` names, its parameters and those of the guards checked and bound.

    classes: whether the targets are classes. labels: whether the classes of the owned samples are known
    beforehand. target: what there is instead, in words. given: columns that the caller has already, so that
    no file is needed. defaults: values for parameters of that name that are not given (epochs). Returns
    (function (scores, epoch, seed, comm) -> Selection, dict of the policy's own parameters). Raises
    InputError for an unknown policy or parameter, and when it needs classes that the data set lacks.
    """
    function = find_policy(name)
    own, around = ({n for n, p in inspect.signature(f).parameters.items() if p.kind is p.KEYWORD_ONLY}
                   for f in (function, guarded))
    if own & around:
        raise InputError(f"filter.policy: {name} has the parameters {', '.join(sorted(own & around))}, "
                         "which are the names of guards")
    values = bind((function, guarded), parameters, "filter", **defaults)
    guards = {key: values.pop(key) for key in around}
    if not labels and (values.get("per_class") or guards["class_floor"]):
        raise InputError(f"filter.{'per_class' if values.get('per_class') else 'class_floor'}: "
                         f"needs class labels, got {target}")
    facts = facts_of(function)
    if facts.needs_classes and not classes:
        free = ", ".join(n for n, f in POLICIES.items() if not f.facts.needs_classes)
        raise InputError(f"filter.policy: {name} needs class labels, got {target}; policies without: {free}")
    if guards["noise"] and facts.own_tail:
        raise InputError(f"filter.noise: {name} hides a hard tail of its own; set that")
    if not given and (problem := facts.problem(values)):
        raise InputError(problem)
    policy = _own_policy(function, values) if ":" in name else partial(function, **values)
    return partial(guarded, policy, **guards), values


def _own_policy(function, values):
    """A policy of the user's own, whose mistakes become an OwnCode. values: its parameters."""
    check_call("filter.policy", FORM, function, *[None] * 4, **values)

    def policy(scores, epoch, seed, comm):
        with code("filter.policy", True, function):
            selection = function(scores, epoch, seed, comm, **values)
        if not isinstance(selection, Selection):
            raise OwnCode(f"filter.policy: {name_of(function)} returned {a(selection)}, "
                          f"expected a hpcfilter.Selection{place(function)}")
        if selection.lr_scale != 1:
            raise OwnCode(f"filter.policy: {name_of(function)} sets lr_scale = {selection.lr_scale}, "
                          "which would be ignored: it is made from "
                          f'lr_rule, "none", "kept" or "effective"{place(function)}')
        return selection

    policy.__name__ = name_of(function)
    return policy
