"""The steps of `make demo`, shortened: a packed file, two runs on two real ranks, one table, one picture."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import CHECKOUT, TIMEOUT

from hpcfilter.report import read_run


@pytest.mark.parametrize("data", ["digits", "own"])
def test_demo(tmp_path, data):
    source = data
    if data == "own":
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 2, 200)
        np.savez(tmp_path / "own.npz", images=(rng.random((200, 8, 8, 3)) * 100 + 100 * labels[:, None, None, None]).astype(np.uint8), labels=labels)
        source = tmp_path / "own.npz"
    words = ["demo", "--data", str(source), "--epochs", "2", "--folder", str(tmp_path / "demo")]
    done = subprocess.run([sys.executable, "-m", "benchmarks", *words], cwd=CHECKOUT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("run "))
    for name in ("accuracy", "passes saved", "select s", "train s", "score s"):
        assert name in lines[header]
    assert lines[header + 1].startswith("none") and lines[header + 2].startswith("kakurenbo")
    assert read_run(tmp_path / "demo" / "kakurenbo")[0]["ranks"] == 2
    picture = (tmp_path / "demo" / "demo.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10000
