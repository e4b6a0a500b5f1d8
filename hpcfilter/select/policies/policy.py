"""What is known of a policy beside its function: one decorator, checked when the file is imported."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields

from hpcfilter.base.errors import OwnCode
from hpcfilter.base.own import name_of, place


def never(parameters):
    """Of no set of parameters."""
    return False


@dataclass(frozen=True)
class Facts:
    """score: the score that it ranks by unless [score] names another; None for a policy that looks at none.
    needs_classes: it reads class labels.

    given: (parameter that names a file, columns of it that the policy reads from scores.given), or None.
    needs_given: it cannot do without. once: (parameters) -> whether it cuts once, at the beginning of its
    phase, by what earlier phases have shown. anew: the papers begin anew with what such a cut leaves.
    sums_to_n: (parameters) -> whether the weights of the kept samples claim to sum to N. own_tail: it hides a
    hard tail itself, so the noise guard would be a second one.
    problem: (parameters) -> what is wrong with a set of parameters that are right one by one, or None.
    """

    score: str | None = "loss"
    needs_classes: bool = False
    given: tuple | None = None
    needs_given: bool = False
    once: Callable = never
    anew: bool = False
    sums_to_n: Callable = never
    own_tail: bool = False
    problem: Callable = lambda parameters: None


def policy(**facts):
    """The decorator of a policy: @policy(score="aum", needs_classes=True). Raises TypeError at import for a
    fact that there is not, or one that does not fit the function."""
    known = Facts(**facts)

    def decorate(function):
        positional = [name for name, p in inspect.signature(function).parameters.items()
                      if p.kind is not p.KEYWORD_ONLY]
        if positional != ["scores", "epoch", "seed", "comm"]:
            raise TypeError(f"{function.__name__}: takes ({', '.join(positional)}), expected (scores, epoch, "
                            "seed, comm, *, parameters)")
        if known.given and known.given[0] not in inspect.signature(function).parameters:
            raise TypeError(f"{function.__name__}: given: it has no parameter {known.given[0]}")
        function.facts = known
        return function

    return decorate


def facts_of(function):
    """The Facts of a policy; the defaults for one without the decorator. Raises OwnCode for facts that hang
    on the function by themselves."""
    old = [field.name for field in fields(Facts) if hasattr(function, field.name)]
    if old and not hasattr(function, "facts"):
        raise OwnCode(f"filter.policy: {name_of(function)} has the attribute {old[0]}, "
                      f"expected the decorator @hpcfilter.policy({old[0]}=...){place(function)}")
    return getattr(function, "facts", None) or Facts()
