"""The steps of `make demo`, shortened: a packed file, two runs on two real ranks, a probe, one table, one picture, one page."""

import numpy as np
import pytest

from benchmarks.__main__ import main
from hpcfilter.study.report import read_run


def own(folder):
    """Colour images of two classes that the brightness tells apart."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    np.savez(folder / "own.npz", images=(rng.random((200, 8, 8, 3)) * 100 + 100 * labels[:, None, None, None]).astype(np.uint8), labels=labels)
    return folder / "own.npz"


@pytest.mark.parametrize("data", ["digits", "own", "regression"])
def test_demo(tmp_path, data, regression, real_ranks, capfd):
    source = {"digits": "digits", "own": own(tmp_path), "regression": regression}[data]
    assert main(["demo", "--data", str(source), "--epochs", "2", "--folder", str(tmp_path / "demo")]) == 0
    lines = capfd.readouterr().out.splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("run "))
    for name in ("accuracy", "passes saved", "select s", "train s", "score s"):
        assert name in lines[header]
    policy = "random" if data == "regression" else "kakurenbo"
    assert lines[header + 1].startswith("none") and lines[header + 2].startswith(policy)
    assert read_run(tmp_path / "demo" / policy)[0]["ranks"] == 2
    picture = (tmp_path / "demo" / "demo.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10000
    assert "Landscape of the loss" in (tmp_path / "demo" / "report.html").read_text()
