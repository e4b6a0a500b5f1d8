"""The README's table of goals is what the recorded results say."""

import pytest
from conftest import CHECKOUT

from benchmarks.goals import RESULTS, goals, parts, placed
from hpcfilter.base.errors import InputError
from hpcfilter.study.report import read_results


def test_the_readme_shows_the_results():
    page = (CHECKOUT / "README.md").read_text()
    for name, text in parts(read_results(RESULTS)).items():
        assert placed(page, name, text) == page, "python -m benchmarks goals --write README.md"


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(InputError, match="run it first"):
        goals([])
    with pytest.raises(InputError, match="expected the comments"):
        placed("no table here", "goals", "x")
    first, last = "<!-- x: python -m benchmarks goals --write README.md -->", "<!-- end of x -->"
    assert placed(f"a{first}old{last}b", "x", "new") == f"a{first}\nnew\n{last}b"
