"""Pieces of Markdown."""

import textwrap

from hpcfilter.study.explain import docs, keys

WIDTH = 110  # characters of a line of prose


def table(head, rows):
    """A table of texts."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(
        lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    )


def key_table(found):
    """The table of some keys, list of Key."""
    return table(
        ["key", "type", "default", "meaning"],
        [
            [
                code(key.name),
                key.kind,
                code(key.default_words) if key.default is not keys.REQUIRED else key.default_words,
                key.meaning,
            ]
            for key in found
        ],
    )


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
