"""A run config with every key, its type, its default and what it means, as TOML: what is on is the default,
what is off is commented out."""

import re
import textwrap

from hpcfilter.select.policies.guards import guarded
from hpcfilter.study.explain import docs, keys, names
from hpcfilter.train.config import Config

WIDTH = 110  # columns
COLUMN = 34  # where the comments begin
EXAMPLES = {  # what a key without a default may be, by the beginning of its type
    "whole number": 1,
    "number": 0.5,
    "true or false": False,
    "path": "a/path",
    "table of": {},
    "table": {},
    "list": [],
}
HEAD = """\
# A run config with every key of hpcfilter.
#
# A line without a # is the default: it may be left out. A line with a # is off, or has no default.
# Behind each key: its type, and what it means. hpcfilter explain NAME says more, as of filter.kakurenbo
"""


def whole_config():
    """The text of the run config. It is valid as it stands; only data.path must be yours."""
    first = [key for key in keys.of_table(Config) if key.name not in names.FAMILIES]
    parts = [HEAD, *_lines(first)]
    for table, (schema, header) in names.tables().items():
        off = header.startswith("[[")
        parts += ["", *_filled(docs.whole(docs.document(schema).partition(": ")[2])), f"{'# ' * off}{header}"]
        parts += [*_lines(keys.of_table(schema), off), *_named(table)]
        parts += _passes() if table == "exchange" else []
    return "\n".join(parts)


def _passes():
    """The tables [pass.NAME], which stand for themselves."""
    lines = []
    for name, thing in names.FAMILIES["pass"].known.items():
        about = f"A pass around the plain one. {docs.first(docs.head(thing))}."
        lines += ["", *_filled(about), f"# [pass.{name}]", *_lines(keys.of_function(thing), True)]
    return lines


def _named(table):
    """The keys of what a table names, in a part of its own for each. Those of the default are on."""
    if table not in names.FAMILIES:
        return []
    family, lines = names.FAMILIES[table], []
    if table == "filter":
        lines += ["# Keys of every policy:", *_lines(keys.of_function(guarded))]
    for name, thing in family.known.items():
        if own := [key for key in keys.of_function(thing) if key.name not in keys.SUPPLIED]:
            lines += [f'# Keys of {family.key} = "{name}":', *_lines(own, name != _default(table, family))]
    return lines


def _lines(found, off=False):
    """The lines of some keys. off: commented out."""
    return [line for key in found for line in _line(key, off)]


def _default(table, family):
    return next(key.default for key in keys.of_table(names.tables()[table].schema) if key.name == family.key)


def _line(key, off=False):
    """A key with its default, or an example where it has none, and the comment; long comments go on below."""
    bare = key.default is None or key.default is keys.REQUIRED
    off = off or key.default is None
    line = f"{'# ' * off}{key.name} = {keys.toml(_example(key) if bare else key.default)}"
    said = "; ".join(filter(None, [key.kind, "must be given" * (key.default is keys.REQUIRED), key.meaning]))
    first, *rest = textwrap.wrap(said, WIDTH - COLUMN - 2, break_on_hyphens=False) or [""]
    if len(line) >= COLUMN:
        return [line, *(f"{' ' * COLUMN}# {text}" for text in (first, *rest))]
    return [f"{line.ljust(COLUMN)}# {first}", *(f"{' ' * COLUMN}# {text}" for text in rest)]


def _example(key):
    """A value of the key's type."""
    if key.kind.startswith('"') and key.kind != '"[D-]HH:MM:SS"':
        return key.kind.split('"')[1]
    if own := re.search(r"package\.module:\w+", key.meaning):
        return own[0]
    return next((value for kind, value in EXAMPLES.items() if key.kind.startswith(kind)), "name")


def _filled(text):
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
