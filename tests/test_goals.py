"""The README's table of goals is what the recorded results say."""

import pytest
from conftest import CHECKOUT

from benchmarks.goals import BEGIN, END, RESULTS, goals, placed
from hpcfilter.errors import InputError
from hpcfilter.report import read_results


def test_the_readme_shows_the_results():
    page = (CHECKOUT / "README.md").read_text()
    assert placed(page, goals(read_results(RESULTS)).markdown()) == page, "python -m benchmarks goals --write README.md"


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(InputError, match="run it first"):
        goals([])
    with pytest.raises(InputError, match="expected the comments"):
        placed("no table here", "x")
    assert placed(f"a{BEGIN}old{END}b", "new") == f"a{BEGIN}\nnew\n{END}b"
