"""What may stand behind a key, in words, from its annotation: "number in [0, 1)"."""

import datetime
import types
import typing
from pathlib import Path

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
    if described := [
        one.description for one in _flat(more) if isinstance(one, FieldInfo) and one.description
    ]:
        return described[-1]
    if origin in (types.UnionType, typing.Union):
        found = [words(one, more) for one in inside if one is not type(None)]
        return " or ".join(dict.fromkeys(found))
    if origin is typing.Literal:
        names = [f'"{one}"' if isinstance(one, str) else str(one) for one in inside]
        return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    if expected := [one.expected for one in _flat(more) if isinstance(one, Form)]:
        return expected[-1]
    return _plain(annotation, origin, inside) + _bounds(annotation, list(_flat(more)))


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
    """The limits of a number, in words: " above 0", " from 1 on", " from 1 to 9", " in [0, 1)"; "" without
    any."""
    if annotation not in (int, float):
        return ""
    low = next(
        (
            (f"{getattr(one, name):.15g}", bracket)
            for one in metadata
            for kind, name, bracket in LOWEST
            if isinstance(one, kind)
        ),
        None,
    )
    high = next(
        (
            (f"{getattr(one, name):.15g}", bracket)
            for one in metadata
            for kind, name, bracket in HIGHEST
            if isinstance(one, kind)
        ),
        None,
    )
    if low and high:
        return (
            f" from {low[0]} to {high[0]}"
            if annotation is int
            else f" in {low[1]}{low[0]}, {high[0]}{high[1]}"
        )
    if low:
        return f" above {low[0]}" if low[1] == "(" else f" from {low[0]} on"
    return f" below {high[0]}" if high and high[1] == ")" else f" up to {high[0]}" if high else ""


def _flat(metadata):
    """The metadata, and what stands inside of a pydantic Field."""
    for one in metadata:
        yield one
        if isinstance(one, FieldInfo):
            yield from one.metadata
