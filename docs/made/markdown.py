"""Pieces of Markdown."""

import textwrap

from hpcfilter.study.explain import docs, keys

WIDTH = 110  # characters of a line of prose


def table(head, rows):
    """A table of texts."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in (head, *cells)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def key_table(found):
    """The table of some keys, list of Key."""
    rows = [[code(key.name), key.kind, _default(key), key.meaning] for key in found]
    return table(["key", "type", "default", "meaning"], rows)


def _default(key):
    return key.default_words if key.default is keys.REQUIRED else code(key.default_words)


def code(text):
    """Text as code; nothing for nothing."""
    return f"`{text}`" if text else ""


def prose(text):
    """Paragraphs, wrapped."""
    return "\n\n".join(
        "\n".join(textwrap.wrap(part, WIDTH, break_long_words=False, break_on_hyphens=False))
        for part in docs.paragraphs(text)
    )


def page(*parts):
    """Parts of a page, those that are not empty, with an empty line between them."""
    return "\n\n".join(part for part in parts if part)


def anchor(heading):
    """The anchor of a heading, as Sphinx and code hosts make it."""
    kept = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return kept.strip().replace(" ", "-")
