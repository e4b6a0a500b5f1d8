"""What may stand behind a key, in words, from its annotation: "number in [0, 1)"."""

import datetime
import types
import typing
from pathlib import Path
from typing import NamedTuple

import annotated_types as limits
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hpcfilter.base.settings import Form

WORDS = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    dict: "table",
    list: "list",
    datetime.date: "date",
    typing.Any: "anything",
}
LOWEST = (limits.Ge, "ge", "["), (limits.Gt, "gt", "(")
HIGHEST = (limits.Le, "le", "]"), (limits.Lt, "lt", ")")


def words(annotation, more=()):
    """An annotation in words. more: further metadata, as of a pydantic field."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return words(inside[0], [*inside[1:], *more])
    more = list(_flat(more))
    if described := [one.description for one in more if isinstance(one, FieldInfo) and one.description]:
        return described[-1]
    if origin in (types.UnionType, typing.Union):
        found = [words(one, more) for one in inside if one is not type(None)]
        return " or ".join(dict.fromkeys(found))
    if origin is typing.Literal:
        names = [f'"{one}"' if isinstance(one, str) else str(one) for one in inside]
        return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    if expected := [one.expected for one in more if isinstance(one, Form)]:
        return expected[-1]
    return _plain(annotation, origin, inside) + _bounds(annotation, more)


def _plain(annotation, origin, inside):
    if origin is list:
        return _several(words(inside[0]))
    if origin is tuple:
        return f"list: {', '.join(words(one) for one in inside if one is not ...)}"
    if origin is dict:
        return "table of names and values"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _several(said):
    """The words for a list of what is said."""
    noun, _, rest = said.partition(" ")
    return f"list of {noun}s {rest}".rstrip() if noun in ("number", "text", "path") else f"list: each {said}"


def _bounds(annotation, metadata):
    """The limits of a number: " above 0", " from 1 on", " from 1 to 9", " in [0, 1)"; "" without any."""
    low, high = _limit(metadata, LOWEST), _limit(metadata, HIGHEST)
    if annotation not in (int, float) or not (low or high):
        return ""
    if low and high:
        if annotation is int:
            return f" from {low.value} to {high.value}"
        return f" in {low.bracket}{low.value}, {high.value}{high.bracket}"
    if low:
        return f" above {low.value}" if low.bracket == "(" else f" from {low.value} on"
    return f" below {high.value}" if high.bracket == ")" else f" up to {high.value}"


class Limit(NamedTuple):
    """An end of a range. bracket: whether it belongs to it, as mathematics writes it."""

    value: str
    bracket: str


def _limit(metadata, kinds):
    for one in metadata:
        for kind, name, bracket in kinds:
            if isinstance(one, kind):
                return Limit(f"{getattr(one, name):.15g}", bracket)
    return None


def _flat(metadata):
    """The metadata, and what stands inside of a pydantic Field."""
    for one in metadata:
        yield one
        if isinstance(one, FieldInfo):
            yield from one.metadata
