"""How an explanation lies on a terminal: names on the left, what they are beside them, never too wide."""

import shutil
import textwrap

from hpcfilter.study.explain import docs, keys

WIDEST = 100  # columns
INDENT = 20  # columns of the names


def entry(name, said):
    """A name and what it is, wrapped beside it. Returns str."""
    return "\n".join(_wrapped(said, f"{name} " if len(name) >= INDENT else name.ljust(INDENT))) or name


def filled(text, indent=0):
    """The paragraphs of a text, wrapped, without empty lines between them. Returns list of lines."""
    return [line for part in docs.paragraphs(text) for line in _wrapped(part, " " * indent, " " * indent)]


def key_lines(found):
    """Each key of a list of Key, with type and default, and what it means below. Returns list of lines."""
    lines = []
    for key in found:
        has_one = key.default not in (None, keys.REQUIRED)
        said = [key.kind, f"default {key.default_words}" if has_one else key.default_words]
        lines += [entry(key.name, "; ".join(filter(None, said))), *filled(key.meaning, INDENT)]
    return lines


def _wrapped(text, first, others=" " * INDENT):
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
