"""hpcfilter report: tables and the proposal page from invented records with known answers, from real runs, and what is refused."""

import csv
import json
import subprocess
import sys

import pytest
from conftest import CHECKOUT

from hpcfilter.cli import main
from hpcfilter.machine import load_machine
from hpcfilter.predict import Fit
from hpcfilter.report import Table, fits, proposal, read_results, results_tables, scaling_tables, study
from hpcfilter.report.form import number, plus_minus
from hpcfilter.report.proposal import at_scale, node_hours, walltimes
from hpcfilter.report.study import kind

PARTS = {"input": 0.001, "forward": 0.01, "backward": 0.02, "communication": 0.005, "optimiser": 0.002}


def invent(folder, ranks, rates, policy="none", hidden=0.0, batch=100, accuracy=(0.5, 0.8, 0.9), data="d", joules=None):
    """A run folder of 1,000 samples, of which each epoch trains what is kept at one of `rates` (samples/s); the first epoch takes 99 s more."""
    folder.mkdir(parents=True)
    fraction = "" if policy == "none" else "fraction = 0.3\n"
    (folder / "config.toml").write_text(f'[data]\npath = "none.h5"\n[filter]\npolicy = "{policy}"\n{fraction}[train]\nepochs = 10\n')
    (folder / "checkpoints" / "epoch-00000").mkdir(parents=True)
    (folder / "checkpoints" / "epoch-00000" / "x").write_bytes(bytes(1 << 20))
    kept = round(1000 * (1 - hidden))
    rows = [{"kind": "run", "ranks": ranks, "ranks_per_node": 2, "global_batch": batch, "samples": 1000, "data": data, "device": "cpu",
             "started": "2026-01-01T00:00:00", "versions": {"python": "3"}, "commit": None}]
    for epoch, (rate, right) in enumerate(zip((rates[0], *rates), accuracy, strict=True)):
        seconds = {"select": 0.1, "rebalance": 0.2, "score": 0.3, "evaluate": 1.0, "checkpoint": 0.5}
        seconds["train"] = kept / rate - 0.6 + 99 * (epoch == 0)
        seconds["total"] = sum(seconds.values())
        rows.append({"kind": "epoch", "epoch": epoch, "kept": kept, "hidden": 1000 - kept, "steps": kept // batch, "accuracy": right,
                     "seconds": seconds, "test_loss": 1.0, "passes": 1.0, "looks": 0.0})
        rows.append({"kind": "speed", "epoch": epoch, "steps": kept // batch, "parts": PARTS,
                     "bytes": {"gradients": 4000 * ranks * (kept // batch), "other": 500, "row": 64}, "joules": joules and joules * (epoch + 1)})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def weak(tmp_path):
    """A weak study: 1 and 4 ranks, none and a filter that hides 30 %."""
    runs = [invent(tmp_path / "s/none/1", 1, (90, 110), batch=100), invent(tmp_path / "s/none/4", 4, (300, 300), batch=400, joules=7.0),
            invent(tmp_path / "s/filter/1", 1, (100, 100), "kakurenbo", 0.3), invent(tmp_path / "s/filter/4", 4, (200, 200), "kakurenbo", 0.3, 400)]
    return study(runs)


def column(table, name):
    return [row[table.head.index(name)] for row in table.rows]


def test_rates_speedup_and_efficiency(weak):
    points, target = weak
    assert [(point.policy, point.ranks, point.nodes) for point in points] == [("none", 1, 1), ("none", 4, 2), ("kakurenbo 0.3", 1, 1),
                                                                              ("kakurenbo 0.3", 4, 2)]
    assert kind(points) == "weak" and target == 0.9
    assert points[0].rate == (pytest.approx(100), pytest.approx(14.142, abs=1e-3)), "the first epoch is left out"
    value, spread = points[1].efficiency(points[0])
    assert value == pytest.approx(0.75) and spread == pytest.approx(0.75 * 0.14142, rel=1e-4), "errors in quadrature; no spread on four ranks"
    first = scaling_tables(points, target)[0]
    assert first.title == "Scaling, weak"
    assert column(first, "speed-up") == ["1", "3", "1", "2"] and column(first, "efficiency")[1] == "0.75 ± 0.21"
    assert column(first, "J per epoch") == ["-", "7", "-", "-"]


def test_breakdown_and_bytes(weak):
    _, parts, moved = scaling_tables(weak[0], 0.9, {4: Fit(4, (), ((0.001, 1e-6),))})
    assert column(parts, "forward") == ["10"] * 4 and column(parts, "rebalancing") == ["200"] * 4
    assert column(moved, "gradients, MB per step") == ["0.004"] * 4
    assert column(moved, "modelled allreduce, ms") == ["-", "5", "-", "5"], "1 ms and 4,000 bytes at 1 us each"


def test_strong_scaling_and_time_to_accuracy(tmp_path):
    points, _ = study([invent(tmp_path / "1", 1, (100, 100)), invent(tmp_path / "2", 2, (200, 200))], target=0.8)
    assert kind(points) == "strong"
    assert points[0].reached == [pytest.approx(2 * (10 + 1.5) + 99)], "up to the end of the second epoch"
    assert study([tmp_path / "1"], target=0.95)[0][0].reached == []


def test_node_hours(weak):
    table = node_hours(weak[0], 10, 3)
    epoch = 2 * (1000 / 300 + 1.5) / 3600
    assert column(table, "per epoch (measured)")[1] == number(epoch) and column(table, "all 3 (modelled)")[1] == number(30 * epoch)
    assert column(table, "saved")[:2] == ["-", "-"] and column(table, "saved")[3] == f"{100 * (1 - 5.0 / (1000 / 300 + 1.5)):.1f} %"


def test_walltimes(weak):
    table = walltimes(weak[0], 100, walltime=220)  # 100 epochs of 11.5 s and more in jobs that train for 100 s
    assert column(table, "jobs") == ["12", "5", "9", "5"] and column(table, "queue") == ["-"] * 4
    on_summit = walltimes(weak[0], 1, load_machine("summit"), 7200)
    assert column(on_summit, "queue") == ["batch, debug"] * 4 and column(on_summit, "walltime of each") == ["02:00:00"] * 4
    assert column(walltimes(weak[0], 1, load_machine("summit"), 90000), "queue") == ["none takes it"] * 4


def test_the_model_is_labelled_and_shows_the_ring_collapse(weak):
    summit = load_machine("summit")
    table = at_scale(weak[0], summit, 10)
    assert "modelled" in table.title and column(table, "ranks")[-1] == "27648" and column(table, "nodes")[-1] == "4608"
    ring, tree = ([float(cell.split()[-1]) for cell in column(table, f"{name}, efficiency")] for name in ("flat ring", "tree"))
    assert ring[-1] < 0.92 and tree[-1] > 0.99 and ring == sorted(ring, reverse=True)
    page = proposal(*weak, machine=summit, trainings=2)
    for text in ("2 trainings of 10 epochs over 1,000 samples", "## Scaling, weak", "## Node-hours", "## Storage", "## Walltime mix", "modelled"):
        assert text in page
    assert "Not modelled" in proposal(*weak)


def test_runs_of_other_data_are_refused(tmp_path, capsys):
    invent(tmp_path / "a", 1, (1, 1), data="x")
    invent(tmp_path / "b", 2, (1, 1), data="y")
    assert main(["report", str(tmp_path)]) == 2
    assert "different data sets" in capsys.readouterr().err


def test_forms():
    table = Table("T", ["name", "x"], [["a|b<i>", "1"], ["c,d", "2"]], ["note"])
    assert "a\\|b&lt;i>" in table.markdown() and table.markdown().startswith("## T")
    assert list(csv.reader(table.csv().splitlines())) == [["table", "name", "x"], ["T", "a|b<i>", "1"], ["T", "c,d", "2"]]
    assert table.text().splitlines()[1] == "name    x"
    assert [number(value) for value in (None, 0, 0.0, 3, 1234567.8, 0.012345, 1e-7, 5e13, -2.5)] == \
        ["-", "0", "0", "3", "1,234,568", "0.0123", "1.00e-07", "5.00e+13", "-2.5"]
    assert plus_minus(10.0, 1.0) == "10 ± 2" and plus_minus(10.0, None) == "10"


def test_results_become_tables_and_fits(tmp_path, capsys):
    row = {"case": "allreduce", "parameters": {"library": "Horovod"}, "ranks": 2, "edges": [8.0], "lines": [[1e-5, 0.0], [0.0, 1e-9]],
           "date": "2026-01-01", "machine": "m", "commit": None, "unit": "s", "versions": {}}
    path = tmp_path / "allreduce.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, "case": "other", "rate": {"a": 1.5}}) + "\n")
    results = read_results(tmp_path)
    assert fits(results)[2].seconds([1, 1000]).tolist() == [1e-5, pytest.approx(1e-6)]
    first, second = results_tables(results)
    assert (first.title, second.title) == ("allreduce", "other") and column(second, "rate.a") == ["1.5"]
    assert main(["report", str(path), "--format", "csv", "-o", str(tmp_path / "out.csv")]) == 0
    assert (tmp_path / "out.csv").read_text().startswith("table,date,library")
    path.write_text('{"no": "case"}\n')
    assert main(["report", str(path)]) == 2 and 'expected lines with a "case"' in capsys.readouterr().err
    path.write_text("nonsense\n")
    assert main(["report", str(path)]) == 2 and "cannot be read as JSON lines" in capsys.readouterr().err


@pytest.mark.parametrize("words, message", [
    (["--machine", "mars", "--proposal", "x.md"], "unknown 'mars'"), (["--target", "90"], "expected a share of 1"),
    (["--walltime", "2h", "--proposal", "x.md"], "--walltime: got '2h', expected hours"), (["--epochs", "3"], "--epochs is of a proposal"),
    (["--proposal", "/nowhere/x.md"], "/nowhere/x.md: cannot be written"), (["--allreduce", "none.jsonl"], "cannot be read as JSON lines")])
def test_bad_words(tmp_path, capsys, words, message):
    invent(tmp_path / "a", 1, (1, 1))
    assert main(["report", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.timeout(300)
def test_a_real_study_from_one_command(tmp_path, digits, real_ranks):
    words = ["scaling", "--data", digits, "--ranks", "1", "2", "--epochs", "2", "--repetitions", "1", "--kinds", "strong", "--batch", "64",
             "--set", "model.width=4", "--set", "data.augment=none", "--set", "data.shift=1", "--folder", tmp_path / "runs",
             "--output", tmp_path / "out.jsonl"]
    done = subprocess.run([sys.executable, "-m", "benchmarks", *map(str, words)], cwd=CHECKOUT, capture_output=True, text=True, timeout=250,
                          check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["parameters"]["policy"], row["ranks"]) for row in rows] == [("none", 1), ("none", 2), ("kakurenbo 0.3", 1), ("kakurenbo 0.3", 2)]
    assert all(row["rate"]["mean"] > 0 and row["step"]["forward"] > 0 for row in rows)
    assert rows[1]["step"]["communication"] > 0 and rows[1]["bytes"]["gradients"] == rows[0]["bytes"]["gradients"]
    assert main(["report", str(tmp_path / "runs"), "--picture", str(tmp_path / "p.svg"), "--proposal", str(tmp_path / "p.md"),
                 "--machine", "frontier"]) == 0
    assert "efficiency" in (tmp_path / "p.svg").read_text() and "## On more nodes: all of it modelled" in (tmp_path / "p.md").read_text()
