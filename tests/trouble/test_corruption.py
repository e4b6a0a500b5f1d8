"""The benchmark of corruptions: what it counts, and that none of a few hundred goes unnoticed."""

import json

import pytest

from benchmarks import corruption
from benchmarks.corruption import Target, corrupt, main, targets
from hpcfilter.base.errors import InputError


def test_every_corruption_is_detected(tmp_path, warm_ranks, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--count", "100", "--output", str(tmp_path / "c.jsonl")])
    assert ended.value.code == 0
    cells = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert {cell["parameters"]["corruption"] for cell in cells} == {"bit flip", "truncation", "zero length",
                                                                    "swapped", "mixed"}
    tried = sum(cell["tried"] for cell in cells)
    assert tried > 300 and sum(cell["detected"] for cell in cells) == tried
    assert f" {tried} " in capsys.readouterr().out.splitlines()[-1]


def test_uncorrupted_targets_are_read(tmp_path, warm_ranks):
    for target in targets(tmp_path):
        before = [file.read_bytes() for file in target.files]
        target.read()
        corrupt(target, 5, seed=1)
        target.read()
        assert [file.read_bytes() for file in target.files] == before, "every corruption is undone"


def test_silence_and_crashes_are_told_apart(tmp_path, monkeypatch):
    file = tmp_path / "f"
    file.write_bytes(bytes(100))

    def careless():
        """Looks at the length alone, and stumbles over an empty file."""
        if len(file.read_bytes()) not in (0, 100):
            raise InputError("too short")
        return 1 / len(file.read_bytes())

    target = Target("careless", [file], careless)
    cells = corrupt(target, 40, seed=0)
    assert cells["bit flip"] == {"silent": 30} and cells["zero length"] == {"crashed": 1}
    assert cells["truncation"]["detected"] >= 9
    monkeypatch.setattr(corruption, "targets", lambda folder: [target])
    with pytest.raises(SystemExit) as ended:
        main(["--count", "4", "--output", str(tmp_path / "c.jsonl")])
    assert ended.value.code == 1
    file.write_bytes(b"short")
    with pytest.raises(InputError, match="cannot be read uncorrupted: detected"):
        corrupt(target, 1, seed=0)
