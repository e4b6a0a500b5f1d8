"""Docstrings in parts: the first sentence, paragraphs, the sentence on a subject, the papers."""

import inspect
import re
import sys

ARXIV = re.compile(r"\b(\d{4}\.\d{4,5})\b")
ABBREVIATIONS = ("al.", "e.g.", "i.e.", "etc.", "resp.")


def document(thing):
    """The docstring, without its indentation; "" for none."""
    return inspect.getdoc(thing) or ""


def head(thing):
    """The docstring of the file that a thing stands in: what it is, and the paper."""
    return inspect.getdoc(sys.modules[thing.__module__]) or ""


def file(thing):
    """Where a thing stands in the source, such as "hpcfilter/select/policies/kakurenbo.py"."""
    return f"{thing.__module__.replace('.', '/')}.py"


def paragraphs(text):
    """The paragraphs of a text, each in one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def sentences(text):
    """The sentences of a text, each in one line."""
    found = []
    for paragraph in paragraphs(text):
        rest = paragraph
        while rest:
            end = next(
                (
                    match.end()
                    for match in re.finditer(r"[.!?](?=\s|$)", rest)
                    if not rest[: match.end()].endswith(ABBREVIATIONS)
                ),
                len(rest),
            )
            found.append(rest[:end].strip())
            rest = rest[end:].strip()
    return found


def first(text):
    """The first sentence of a text, without its full stop."""
    return (sentences(text) or [""])[0].removesuffix(".")


def whole(text):
    """A text as a sentence: with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}." if text else ""


def about(text, *words):
    """The sentences that begin with one of the words, joined: of "State: ..." what stands behind the colon
    too."""
    return " ".join(one for one in sentences(text) if one.startswith(words))


def without(text, *words):
    """The paragraphs of a text without the sentences that begin with one of the words; those that are left
    empty are gone."""
    kept = (
        " ".join(one for one in sentences(part) if not one.startswith(words)) for part in paragraphs(text)
    )
    return [part for part in kept if part]


def papers(*texts):
    """The addresses of the papers that texts name by their arXiv numbers, each once."""
    return [
        f"https://arxiv.org/abs/{number}"
        for number in dict.fromkeys(number for text in texts for number in ARXIV.findall(text))
    ]
