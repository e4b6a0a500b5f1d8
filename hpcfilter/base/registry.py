"""Tables of functions that a config names: the entry of a name, and the values of a function's
keyword-only parameters.

Those parameters, with their annotations, are the schema of the keys beside the name: a policy of the user's
own is configured like one of ours.
"""

import inspect
from pathlib import Path
from typing import Any

import pydantic
from pydantic import ConfigDict

from hpcfilter.base.errors import InputError
from hpcfilter.base.names import unknown
from hpcfilter.base.own import code
from hpcfilter.base.paths import expanded
from hpcfilter.base.settings import describe


def choose(known, name, where):
    """The entry `name` of a table of functions. Raises InputError with the list of those that are known."""
    if name not in known:
        raise InputError(f"{where}: {unknown(name, sorted(known))}")
    return known[name]


def bind(function, given, where, **defaults):
    """Check `given` against the keyword-only parameters of `function`, or of several. Returns the
    complete dict of values.

    function: callable or class, or a tuple of them. where: the config table, for errors. defaults: values for
    parameters of that name which are not given; others are ignored. Raises InputError for a key that the
    function does not take, a missing one, or a value out of its type.
    """
    functions, fields, extra = function if isinstance(function, tuple) else (function,), {}, "forbid"
    named = getattr(functions[0], "__name__", functions[0])
    with code(f"{where}: the parameters of {named} cannot be read", True, functions[0]):
        parameters = [item for each in functions
                      for item in inspect.signature(each, eval_str=True).parameters.items()]
        for name, parameter in parameters:
            if parameter.kind is parameter.VAR_KEYWORD:
                extra = "allow"  # the function checks its keys itself
            if parameter.kind is parameter.KEYWORD_ONLY:
                default = ... if parameter.default is parameter.empty else parameter.default
                kind = Any if parameter.annotation is parameter.empty else parameter.annotation
                fields[name] = (kind, default)
        schema = pydantic.create_model(where, __config__=ConfigDict(extra=extra, protected_namespaces=(),
                                                                    arbitrary_types_allowed=True), **fields)
    given = {**{name: value for name, value in defaults.items() if name in fields}, **given}
    try:
        return {name: _whole(value, f"{where}.{name}") for name, value in schema.model_validate(given)}
    except pydantic.ValidationError as error:
        keys, problem = describe(error, schema, given)
        known = keys and any(name == keys[-1] and name not in fields for name, _ in parameters)
        hint = ", which takes it by position: put a * before its keys" if known else ""
        raise InputError(f"{'.'.join([where, *keys])}: {problem} (of {named}{hint})") from None


def _whole(value, where):
    """A value as the function is to get it: a path is expanded."""
    try:
        return Path(expanded(value)) if isinstance(value, Path) else value
    except ValueError as error:
        raise InputError(f"{where}: {error}, got '{value}'") from None
