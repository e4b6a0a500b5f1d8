"""The keys of a table and the parameters of what it names, each with its type, default and meaning."""

import functools
import inspect
import re
import typing
from dataclasses import dataclass

from hpcfilter.study.explain import kinds
from hpcfilter.study.explain.comments import beside
from hpcfilter.study.explain.docs import first, paragraphs, sentences

REQUIRED = object()  # the default of a key that must be given
SUPPLIED = ("epochs",)  # parameters that the run config has elsewhere
EVERYWHERE = {  # what a parameter of this name means, where nothing is said of it
    "epochs": "epochs of its phase, as the run config says",
    "per_class": "cut in each class by itself, all in the same rounds of communication",
    "delta": "from this share of the epochs on all samples train",
    "width": "channels of the first stage",
    "warmup": "epoch from which the hard tail is counted",
    "patience": "observations in a row in the hard tail, after which a sample is hidden",
    "noise_warmup": "epoch from which the noise guard counts",
    "noise_patience": "observations in a row among the highest scores until the noise guard hides a sample",
    "refresh_every": "of refresh = slice and near: 1 in so many hidden samples gets a forward pass",
}


@dataclass(frozen=True)
class Key:
    """A key of a table. kind: its type in words. default: as TOML has it, None where it may be left out, or
    REQUIRED."""

    name: str
    kind: str
    default: typing.Any
    meaning: str

    @property
    def default_words(self):
        """The default in words, numbers to four digits; "" for a key that may be left out."""
        if self.default is REQUIRED:
            return "must be given"
        return "" if self.default is None else toml(self.default, "{:.4g}".format)


@functools.cache
def of_table(schema):
    """The keys of a table, without those that are tables themselves. schema: pydantic model. Returns list of
    Key."""
    said, defaults = beside(schema), schema.model_construct().model_dump(mode="json", warnings=False)
    return [
        Key(
            field.alias or name,
            field.description or kinds.words(field.annotation, field.metadata),
            REQUIRED if field.is_required() else defaults[name],
            said.get(name, ""),
        )
        for name, field in schema.model_fields.items()
        if not table_in(field.annotation)
    ]


@functools.cache
def of_function(function):
    """The keyword-only parameters of a function, or of the constructor of a class. Returns list of Key.

    What one means stands beside it, or in the docstring: behind its name and a colon, or in the part of a
    sentence that names it first.
    """
    said = beside(function.__init__ if inspect.isclass(function) else function)
    document, found = inspect.getdoc(function) or "", []
    for one in inspect.signature(function, eval_str=True).parameters.values():
        if one.kind is not one.KEYWORD_ONLY:
            continue
        default = one.default if one.default is not one.empty else None if one.name in SUPPLIED else REQUIRED
        kind = "anything" if one.annotation is one.empty else kinds.words(one.annotation)
        meaning = (
            said.get(one.name)
            or _behind_its_name(document, one.name)
            or EVERYWHERE.get(one.name)
            or _naming_it(document, one.name)
        )
        found.append(Key(one.name, kind, default, meaning))
    return found


def table_in(annotation):
    """The schema of a field that is written as a table of its own, or as a list of them; None for a key of
    its table."""
    entries = typing.get_args(annotation)[0] if typing.get_origin(annotation) is list else annotation
    return entries if hasattr(entries, "model_fields") else None


def toml(value, number=repr):
    """A value as TOML has it in one line. number: how a number with a point is written."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(one, number) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {toml(one, number)}' for key, one in value.items())}}}"
    return number(value) if isinstance(value, float) else repr(value)


def _behind_its_name(document, name):
    """The sentence of a docstring behind "name:", up to the next such name."""
    found = (re.search(rf"(?:^|[.;] ){name}: (.+?)(?=[.;] \w+: |$)", part) for part in paragraphs(document))
    return next((first(match[1]) for match in found if match), "")


def _naming_it(document, name):
    """The first part of a sentence that names a parameter."""
    parts = (part for text in sentences(document) for part in re.split(r"; |, and ", text.removesuffix(".")))
    named = re.compile(rf"(?<![\w.]){name}(?![\w(])")
    return next((part.removeprefix("and ") for part in parts if named.search(part)), "")
