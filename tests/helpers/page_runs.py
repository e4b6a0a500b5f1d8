"""Fixtures of the tests of pages."""

import pytest
from pages import invent_probe, invent_run

from hpcfilter.study.report.page import page


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A probed run of five nasty classes, and one of another policy that was not probed."""
    folder = tmp_path_factory.mktemp("runs")
    probed = invent_run(folder / "<i>kakurenbo")
    invent_probe(probed)
    return [probed, invent_run(folder / "none & nothing", policy="none", scores=False, seed=1)]


@pytest.fixture(scope="session")
def text(runs):
    """Their page."""
    return page(runs)
