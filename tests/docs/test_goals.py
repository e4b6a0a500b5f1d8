"""The tables of goals and of the evidence, in docs/, are what the recorded results say."""

import re

import pytest
from conftest import CHECKOUT

from benchmarks.__main__ import main
from benchmarks.goals import EVIDENCE, PAGES, RESULTS, goals, parts, placed
from hpcfilter.base.errors import InputError
from hpcfilter.study.report import read_results


def test_the_pages_show_the_results():
    for name, text in parts(read_results(RESULTS)).items():
        page = (CHECKOUT / "docs" / PAGES.get(name, EVIDENCE)).read_text()
        assert placed(page, name, text) == page, "python -m benchmarks goals --write docs"


def test_the_tables_are_written_into_their_pages(tmp_path):
    for name in ("benchmarks.md", "evidence.md"):
        page = (CHECKOUT / "docs" / name).read_text()
        (tmp_path / name).write_text(page.replace("**no**", "maybe").replace("±", "by"))
    assert main(["goals", "--write", str(tmp_path)]) == 0
    for name in ("benchmarks.md", "evidence.md"):
        written, kept = (re.findall(r"<!-- [\w, ]+: python.*?<!-- end of", (folder / name).read_text(),
                                    re.DOTALL) for folder in (tmp_path, CHECKOUT / "docs"))
        assert written == kept


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(InputError, match="run it first"):
        goals([])
    with pytest.raises(InputError, match="expected the comments"):
        placed("no table here", "goals", "x")
    first, last = "<!-- x: python -m benchmarks goals --write docs -->", "<!-- end of x -->"
    assert placed(f"a{first}old{last}b", "x", "new") == f"a{first}\nnew\n{last}b"
