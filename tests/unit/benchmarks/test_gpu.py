"""The measurement of a GPU: a part that fails or has no time left does not end the others, and says so."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import CHECKOUT

from benchmarks import gpu
from benchmarks.gpu_parts import median, seconds
from hpcfilter.base.errors import InputError


def rows(folder):
    return [json.loads(line) for line in (Path(folder) / "gpu.jsonl").read_text().splitlines()]


@pytest.fixture
def measure(digits, tmp_path, monkeypatch):
    """measure(name -> function of a Site, minutes) -> the rows that it leaves."""
    def run(parts, minutes=5):
        monkeypatch.setattr(gpu, "PARTS", parts)
        gpu.main(["--data", str(digits), "--folder", str(tmp_path), "--device", "cpu", "--model", "mlp",
                  "--batch", "120", "--epochs", "1", "--minutes", str(minutes)])
        return rows(tmp_path)

    return run


def test_parts_leave_lines_with_where_they_come_from(measure):
    def trains(site):
        run, epochs, _ = site.train("one", {})
        site.write("trains", accuracy=epochs[0]["accuracy"], found=run["device"])

    line, = measure({"trains": trains})
    assert (line["case"], line["parameters"]["part"], line["found"]) == ("gpu", "trains", "cpu")
    assert 0 < line["accuracy"] <= 1 and line["parameters"]["batch"] == 120 and line["versions"]["torch"]


def test_a_part_that_fails_does_not_end_the_others(measure, tmp_path):
    def diverges(site):
        site.train("one", {"optim.lr": "1e30"})

    with pytest.raises(InputError, match="failed: diverges; the lines in .*gpu.jsonl say why"):
        measure({"diverges": diverges, "after": lambda site: site.write("after", done=True)})
    failed, after = rows(tmp_path)
    assert "one: ended with 2: hpcfilter: train: the weights are not finite" in failed["failed"]
    assert after["done"]


def test_what_there_is_no_time_for_is_left_out_and_said(measure, capsys):
    lines = measure({"first": lambda site: site.train("one", {})}, minutes=0.1)
    assert [line["left_out"] for line in lines] == ["no time was left"]
    assert "first: no time is left; the rest of it is left out" in capsys.readouterr().out


def test_seconds_are_those_of_the_epochs_that_count():
    epochs = [{"seconds": {"select": 1, "rebalance": 0, "train": time, "score": 0, "evaluate": 99}}
              for time in (50, 2, 30, 4)]
    assert seconds(epochs) == median([3, 31, 5]) == 5 and seconds(epochs[:1]) == 51


@pytest.mark.parametrize("words, more, message", [
    ([], {}, "got no SOURCE"), (["no/such/file"], {}, "no/such/file: no such file or folder"),
    (["digits"], {"PYTHON": "no-python"}, "no interpreter 'no-python'")])
def test_the_script_says_what_it_needs(words, more, message, tmp_path):
    done = subprocess.run(["bash", CHECKOUT / "benchmarks" / "gpu.sh", *words], cwd=tmp_path, text=True,
                          capture_output=True, env={**os.environ, **more}, timeout=60, check=False)
    assert done.returncode == 2 and f"gpu.sh: {message}" in done.stderr
