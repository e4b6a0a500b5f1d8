"""A short campaign: ranks of real runs are killed at random; every checkpoint can be read, every run ends with equal bits."""

import json
import subprocess
import sys

import pytest
from conftest import CHECKOUT


@pytest.mark.timeout(400)
def test_a_dozen_kills(tmp_path, real_ranks):
    words = ["-m", "benchmarks", "faults", "--kills", "12", "--ranks", "2", "3", "--seed", "7", "--output", str(tmp_path / "rows.jsonl")]
    done = subprocess.run([sys.executable, *words], cwd=CHECKOUT, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    totals = {name: sum(row[name] for row in rows) for name in ("kills", "generations", "unreadable", "equal")}
    assert totals["kills"] == totals["equal"] == 12 and totals["unreadable"] == 0 and totals["generations"] > 0
    assert len(rows) > 4, "at several points"
    assert f"| **all** | 12 | {totals['generations']} | 0 | 12 |" in done.stdout
