"""Ranks of real runs are killed at random; every checkpoint can be read, every run ends with equal bits."""

import json

import pytest

from benchmarks.__main__ import main


def campaign(path, kills, ranks, seed):
    """Run the campaign. Returns its rows, one for each point at which ranks were killed."""
    words = ["faults", "--kills", kills, "--ranks", *ranks, "--seed", seed, "--output", path / "rows.jsonl"]
    assert main([str(word) for word in words]) == 0
    rows = [json.loads(line) for line in (path / "rows.jsonl").read_text().splitlines()]
    totals = {name: sum(row[name] for row in rows)
              for name in ("kills", "generations", "unreadable", "equal")}
    assert (totals["kills"] == totals["equal"] == kills and totals["unreadable"] == 0
            and totals["generations"] > 0)
    return rows, totals


def test_two_kills(tmp_path, warm_ranks):
    campaign(tmp_path, 2, [2], seed=7)


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_dozen_kills(tmp_path, real_ranks, capsys, pytestconfig):
    rows, totals = campaign(tmp_path, 12, [2, 3], pytestconfig.getoption("seed"))
    assert len(rows) > 4, "at several points"
    assert f"| **all** | 12 | {totals['generations']} | 0 | 12 |" in capsys.readouterr().out
