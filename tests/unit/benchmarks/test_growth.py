"""`python -m benchmarks growth`: a threshold's bytes do not grow with the keys, what does not fit is said,
and a wrong threshold is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import growth
from benchmarks.__main__ import main
from hpcfilter.base.errors import BrokenInvariant
from hpcfilter.comm import SerialComm

WAYS = {"sample", "no sample"}


def test_growth_on_real_ranks(tmp_path, real_ranks, capfd):
    output = tmp_path / "growth.jsonl"
    words = ["--samples", "100000", "1000000", "--ranks", "2", "--per-rank", "200000", "--repetitions", "3",
             "--output", str(output)]
    assert main(["growth", *words]) == 0
    tables = {name: [] for name in ("N grows", "P grows", "at scale")}
    for line in output.read_text().splitlines():
        row = json.loads(line)
        assert (row["case"] == "growth" and row["machine"] and row["versions"]["numpy"] == np.__version__
                and {"commit", "date", "unit"} < set(row))
        tables[row["parameters"]["table"]].append(row)
    assert [row["parameters"]["samples"] for row in tables["N grows"]] == [100_000] * 2 + [1_000_000] * 2
    assert [row["parameters"]["n_local"] for row in tables["P grows"]] == [200_000] * 2
    for row in tables["N grows"] + tables["P grows"]:
        assert row["ranks"] == 2 and row["repetitions"] == 3 and row["memory"] > row["parameters"]["n_local"]
        assert 0 < row["seconds"]["min"] <= row["seconds"]["median"] <= row["seconds"]["max"]
        assert (4 <= row["collectives"] <= 8 and row["modelled"]["seconds"]
                == sum(row["modelled"][part] for part in ("passes", "communication")))
    for way in WAYS:
        few, many = (row["payload"] for row in tables["N grows"] if row["parameters"]["way"] == way)
        assert few == many <= 56 << 10, "ten times the keys, the same bytes"
    assert ({row["ranks"] for row in tables["at scale"]} == {64, 1024, 27_648}
            and all(row["modelled"]["seconds"] > 0 for row in tables["at scale"]))
    assert {row["parameters"]["way"] for row in tables["at scale"]} == WAYS
    printed = capfd.readouterr().out
    assert ("N grows: 2 ranks" in printed and "P grows: 200,000 keys per rank" in printed
            and "27648 ranks" in printed)


def test_keys_are_those_of_their_index():
    whole = growth.keys(range(200_000))
    assert whole.dtype == np.float32 and np.array_equal(
        whole, np.concatenate([growth.keys(range(70_001)), growth.keys(range(70_001, 200_000))]))
    assert np.mean(whole) == pytest.approx(1, abs=0.01) and len(growth.keys(range(5, 5))) == 0


def test_what_does_not_fit_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(growth.psutil, "virtual_memory", lambda: SimpleNamespace(available=2_000_000))
    rows = growth.measure_one(100_000, 1, SerialComm())
    assert ["skipped" in row for row in rows] == [False, True], "the sample needs less than all keys"
    growth.show("N grows: 1 rank", rows, {1: dict.fromkeys(WAYS)}, tmp_path / "growth.jsonl")
    assert "no sample skipped: needs about 0.0 GB" in capsys.readouterr().out
    assert [json.loads(line).get("skipped", False)
            for line in (tmp_path / "growth.jsonl").read_text().splitlines()] == [False, True]


@pytest.mark.parametrize("wrong", ["one too many", "another one"])
def test_a_wrong_threshold_is_refused(monkeypatch, wrong):
    mine = growth.keys(range(1000))
    assert growth.check(mine, 300, "sample", SerialComm()) == np.sort(mine)[299]
    mask, threshold = growth.cut(mine, 301 if wrong == "one too many" else 300, SerialComm())
    monkeypatch.setattr(growth, "cut",
                        lambda *arguments: (mask if wrong == "one too many" else np.roll(mask, 1), threshold))
    with pytest.raises(BrokenInvariant, match="expected 300 up to"):
        growth.check(mine, 300, "sample", SerialComm())


def test_the_model_finds_the_passes():
    rows = [{"way": "sample", "ranks": 1, "n_local": n, "seconds": {"median": 1e-4 + 3e-9 * n},
             "calls": [["sum", 8]]} for n in (10**5, 10**6, 10**7)]
    model = growth.model_of({"N grows": rows, "allreduce": None}, "sample", 1)
    assert ((model.a, model.b) == (pytest.approx(1e-4), pytest.approx(3e-9))
            and model.seconds(rows[0])["communication"] == 0)
    assert growth.model_of({"N grows": rows[:1], "allreduce": None}, "sample", 1) is None


def test_the_sample_is_shared_out_on_more_ranks():
    row = {"ranks": 2, "calls": [["allgather", 8 + 4 * 2048], ["sum", 16384]]}
    assert (growth.sizes(row, 2) == [16, 4 * 4096 + 16, 16384]
            and growth.sizes(row, 1024) == [8192, 4 * 4096 + 8192, 16384])


def test_ranks_that_disagree_are_refused():
    row = {"samples": 10, "way": "sample", "threshold": 1.0}
    found = {ranks: {"N grows": [{**row, "ranks": ranks, "threshold": float(ranks)}], "P grows": []}
             for ranks in (1, 2)}
    growth.check_same({1: found[1]})
    with pytest.raises(BrokenInvariant, match="2 ranks: got the threshold 2.0, expected 1.0"):
        growth.check_same(found)
