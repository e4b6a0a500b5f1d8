"""The complaints of pydantic in everyday words: one table from its types of error to what was expected."""

import re

from hpcfilter.base.names import meant

LIST = 'a list, such as [1, 2] or ["a", "b"]'
EXPECTED = {  # type of a pydantic error -> what was expected; {names} are of its context
            "int_type": "a whole number", "int_parsing": "a whole number", "int_from_float": "a whole number",
            "int_parsing_size": "a smaller whole number", "float_type": "a number",
            "float_parsing": "a number", "finite_number": "a finite number",
            "multiple_of": "a multiple of {multiple_of}", "greater_than": "more than {gt}",
            "greater_than_equal": "{ge} or more",
            "less_than": "less than {lt}", "less_than_equal": "{le} or less", "bool_type": "true or false",
            "bool_parsing": "true or false", "none_required": "nothing", "string_type": "a text in quotes",
            "string_too_short": "a text of {min_length} or more characters",
            "string_too_long": "a text of at most {max_length} characters",
            "string_pattern_mismatch": "a text of another form", "bytes_type": "a text in quotes",
            "path_type": "a path in quotes", "enum": "{expected}", "list_type": LIST, "tuple_type": LIST,
            "set_type": LIST, "frozen_set_type": LIST, "too_short": "{min_length} or more entries",
            "too_long": "at most {max_length} entries", "dict_type": "a table", "model_type": "a table",
            "model_attributes_type": "a table", "dataclass_type": "a table", "mapping_type": "a table",
            "date_type": "a date, such as 2026-01-31", "date_parsing": "a date, such as 2026-01-31",
            "date_from_datetime_parsing": "a date, such as 2026-01-31",
            "date_from_datetime_inexact": "a date without a time", "datetime_type": "a date and a time",
            "datetime_parsing": "a date and a time", "time_type": "a time, such as 12:30:00",
            "time_parsing": "a time, such as 12:30:00", "time_delta_type": "a number of seconds",
            "time_delta_parsing": "a number of seconds", "is_instance_of": "a {class}",
            "callable_type": "a function", "json_invalid": "a text that is JSON",
            "json_type": "a text that is JSON",}


def complaints(errors, given):
    """What pydantic finds wrong, place by place. errors: of ValidationError.errors().
    given: what was validated.

    Returns a list of (keys: list, problem: str); the alternatives of one place are one problem. Unknown keys
    come first: they may be why others are missing.
    """
    places = {}
    for error in sorted(errors, key=lambda one: one["type"] != "extra_forbidden"):
        places.setdefault(tuple(_keys(error, given)), []).append(error)
    return [(list(keys), _problem(found, bool(keys))) for keys, found in places.items()]


def _keys(error, given):
    """The keys of the place: what stands in `given`, and one that is missing there. pydantic adds names of
    its own for alternatives."""
    keys = []
    for key in error["loc"]:
        if key in (given if isinstance(given, dict)
                   else range(len(given)) if isinstance(given, list | tuple) else ()):
            given = given[key]
        elif key != "[key]" and (error["type"] != "missing" or key != error["loc"][-1]):
            break
        keys.append(str(key))
    return keys


def _problem(errors, has_keys):
    """What is wrong at one place, in words."""
    first = errors[0]
    if first["type"] in ("missing", "extra_forbidden"):
        return first["type"]
    if first["type"] in ("value_error", "assertion_error"):
        expected = str(first["ctx"]["error"])
    else:
        names = [name for error in errors if error["type"] in ("literal_error", "enum")
                 for name in _choices(error)]
        words = [_expected(error) for error in errors if error["type"] not in ("literal_error", "enum")]
        expected = f"expected {' or '.join(dict.fromkeys([*words, *([_or(names)] if names else [])]))}"
        if names and isinstance(first["input"], str):
            return (f"{expected}, got {short(first['input'])}"
                    f"{meant(first['input'], [name.strip(chr(39)) for name in names])}")
    if not has_keys or (first["type"] == "value_error" and isinstance(first["input"], dict)):
        return expected  # the words of a whole table say what it got
    problem, *way_out = re.split("; (?!expected)", expected, maxsplit=1)
    return "; ".join([f"{problem}, got {short(first['input'])}", *way_out])


def _choices(error):
    """The values that a literal or an enumeration takes, as pydantic writes them: quoted
    when they are texts."""
    return error["ctx"]["expected"].replace(" or ", ", ").split(", ")


def _or(names):
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _expected(error):
    kind = error["type"]
    if kind == "value_error":
        return str(error["ctx"]["error"]).removeprefix("expected ")
    if kind not in EXPECTED:
        return f"another value ({kind.replace('_', ' ')})"
    context = {name: f"{value:.15g}" if isinstance(value, float) else value
               for name, value in error.get("ctx", {}).items()}
    return EXPECTED[kind].format_map(context)


def short(value, most=200):
    """A value as the user may have written it, cut."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
