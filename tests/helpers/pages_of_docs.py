"""The Markdown pages that people read, taken apart: prose in sentences, code blocks, links, anchors."""

import re

from conftest import CHECKOUT

DOCS = CHECKOUT / "docs"
# of docs/generate.py, in the words of the docstrings
GENERATED = [DOCS / "reference", DOCS / "policies", DOCS / "scores.md"]
PAGES = [path for path in (*sorted(CHECKOUT.glob("*.md")), CHECKOUT / "jobs" / "README.md",
                           *sorted(DOCS.rglob("*.md"))) if path.name != "CHANGELOG.md"
         and "_build" not in path.parts and not any(path.is_relative_to(made) for made in GENERATED)]
FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# made from results, between two comments
TABLES = re.compile(r"<!-- ([\w, ]+): python.*?<!-- end of \1 -->", re.DOTALL)
LINK = re.compile(r"!?\[([^\]]*)\]\(([^)\s]+)\)")


def code_blocks(page):
    """(language, text) of each fenced block, in order. Directives of the site, such as
    {toctree}, are none."""
    return [(language.strip(), text) for language, text in FENCE.findall(page.read_text())
            if not language.startswith("{")]


def prose(page):
    """The text of a page without code, comments, generated tables and HTML."""
    text = FENCE.sub("\n", TABLES.sub("\n", page.read_text()))
    return re.sub(r"<!--.*?-->|</?[a-z][^>]*>", " ", text, flags=re.DOTALL)


def sentences(page):
    """The sentences of a page. A heading, an item of a list and a cell of a table end one, too."""
    paragraphs = []
    for block in re.split(r"\n\s*\n", prose(page)):
        lines = []
        for line in block.splitlines():
            if line.lstrip().startswith("|"):
                lines += [f"\n{cell}\n" for cell in line.strip().strip("|").split("|")
                          if not re.fullmatch(r"[\s:-]*", cell)]
            else:
                lines.append(re.sub(r"^\s*([-*>]|\d+\.|#+)\s+", "\n", line))
                lines += ["\n"] * line.startswith("#")
        paragraphs += " ".join(lines).split("\n")
    spans = [re.sub(r"`[^`]*`", "code", LINK.sub(r"\1", paragraph)) for paragraph in paragraphs]
    return [text.strip() for span in spans for text in re.split(r"(?<=[.!?])[*_)\"]*\s+", span)
            if words_in(text)]


def words_in(text):
    """How many words a sentence has. What stands in backticks is one."""
    return len([word for word in text.split() if re.search(r"\w", word)])


def links(page):
    """The targets of all links and pictures of a page that are not on the internet."""
    text = FENCE.sub("\n", page.read_text())
    found = [target for _, target in LINK.findall(text)] + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page):
    """What a link to a heading of a page may say behind its #, as the sites that show Markdown name it."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("\n", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", LINK.sub(r"\1", heading)).lower()).strip()
            .replace(" ", "-") for heading in headings}
