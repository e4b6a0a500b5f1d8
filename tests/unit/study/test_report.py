"""hpcfilter report: tables and the proposal page from invented records with known answers, from real
runs, and what is refused."""

import json
import subprocess
import sys

import pytest

from benchmarks.__main__ import main as benchmarks
from hpcfilter.base.errors import InputError
from hpcfilter.cli import main
from hpcfilter.jobs.machine import load_machine
from hpcfilter.study.predict import Fit, Link
from hpcfilter.study.report import (
    fits,
    proposal,
    read_results,
    results_tables,
    scaling_tables,
    study,
)
from hpcfilter.study.report.form import Interval
from hpcfilter.study.report.proposal import at_scale, node_hours, walltimes
from hpcfilter.study.report.statistics import interval, quotient
from hpcfilter.study.report.study import kind

PARTS = {"input": 0.001, "forward": 0.01, "backward": 0.02, "communication": 0.005, "optimiser": 0.002}


def invent(folder, ranks, rate, policy="none", hidden=0.0, batch=100, accuracy=(0.5, 0.8, 0.9), data="d",
           device="cpu", train="", speed=True, done=True):
    """A run folder of 1,000 samples, of which each epoch trains what is kept at `rate` samples/s; the first
    epoch takes 99 s more."""
    folder.mkdir(parents=True)
    fraction = "" if policy == "none" else "fraction = 0.3\n"
    (folder / "config.toml").write_text(f'seed = {len(str(folder))}\n[data]\npath = "none.h5"\n[filter]\n'
                                        f'policy = "{policy}"\n{fraction}' f"[train]\nepochs = 10\n{train}")
    (folder / "checkpoints" / "epoch-00000").mkdir(parents=True)
    (folder / "checkpoints" / "epoch-00000" / "x").write_bytes(bytes(1 << 20))
    kept, steps = round(1000 * (1 - hidden)), round(1000 * (1 - hidden)) // batch
    rows = [{"kind": "run", "ranks": ranks, "ranks_per_node": min(ranks, 2), "global_batch": batch,
             "samples": 1000, "data": data, "device": device, "machine": "there",
             "started": "2026-01-01T00:00:00", "versions": {"python": "3"}, "commit": None, "first_epoch": 0}]
    for epoch, right in enumerate(accuracy):
        seconds = {"select": 0.1, "rebalance": 0.2, "score": 0.3, "evaluate": 1.0, "checkpoint": 0.5,
                   "train": kept / rate - 0.6 + 99 * (epoch == 0)}
        rows.append({"kind": "epoch", "epoch": epoch, "kept": kept, "hidden": 1000 - kept, "steps": steps,
                     "accuracy": right, "test_loss": 1.0,
                     "passes": 1.0, "looks": 0.0, "seconds": {**seconds, "total": sum(seconds.values())}})
        if speed:
            rows.append({"kind": "speed", "epoch": epoch, "steps": steps, "parts": PARTS, "joules": 7.0,
                         "joules_of": "node" if ranks > 1 else None,
                         "bytes": {"gradients": 4000 * ranks * steps, "selection": 500 * ranks,
                                   "observations": 600 * ranks, "row": 64}})
    rows += [{"kind": "end"}] * done
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def runs(tmp_path):
    """A weak study: 1 and 4 ranks, none (two runs on one rank) and a filter that hides 30 %."""
    return [invent(tmp_path / "s/none/1a", 1, 90), invent(tmp_path / "s/none/1b", 1, 110),
            invent(tmp_path / "s/none/4", 4, 300, batch=400),
            invent(tmp_path / "s/filter/1", 1, 100, "kakurenbo", 0.3),
            invent(tmp_path / "s/filter/4", 4, 200, "kakurenbo", 0.3, 400)]


@pytest.fixture
def weak(runs):
    return study(runs)


def column(table, name):
    return [row[table.head.index(name)] for row in table.rows]


def test_intervals():
    assert (interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(2.4841, abs=1e-3))
            and interval([5.0]) == (5.0, None)), "t = 4.303 on two degrees"
    assert quotient(Interval(8.0, 0.8), Interval(4.0, 0.0)) == (2.0, pytest.approx(0.2))
    assert quotient(Interval(8.0, None), Interval(4.0, 1.0)).half is None


def test_rates_speedup_and_efficiency(weak):
    points, target = weak
    assert ([(point.policy, point.ranks, point.nodes) for point in points]
            == [("none", 1, 1), ("none", 4, 2), ("kakurenbo 0.3", 1, 1), ("kakurenbo 0.3", 4, 2)])
    assert kind(points) == "weak" and target == 0.9
    assert (points[0].rate.mean == pytest.approx(100)
            and points[0].rate.half == pytest.approx(127.06, rel=1e-3)), "t = 12.7: two runs"
    assert points[1].efficiency(points[0]) == (pytest.approx(0.75), None), "no interval from one run"
    first = scaling_tables(points, target)[0]
    assert first.title == "Scaling, weak" and "Joules of: node." in first.notes
    assert (column(first, "speed-up") == pytest.approx([1, 3, 1, 2])
            and column(first, "J per epoch") == [None, 7, None, 7])
    assert column(first, "runs") == [2, 1, 1, 1] and column(first, "reach it") == ["2 of 2"] + 3 * ["1 of 1"]


def test_the_first_epoch_after_each_start_is_left_out(tmp_path):
    folder = invent(tmp_path / "r", 1, 100, accuracy=(0.1, 0.2, 0.3, 0.4))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows.insert(5, {**rows[0], "first_epoch": 2})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = study([folder])[0][0].records[0]
    assert [row["epoch"] for row in record.counted()] == [row["epoch"] for row in record.speeds()] == [1, 3]


def test_breakdown_and_bytes(weak):
    _, parts, moved = scaling_tables(weak[0], 0.9, {4: Fit(4, (), ((0.001, 1e-6),))})
    assert column(parts, "forward") == [10] * 4 and column(parts, "rebalancing") == pytest.approx([200] * 4)
    assert (column(moved, "gradients, MB per step") == pytest.approx([0.004] * 4)
            and column(moved, "selection, KB per epoch") == [0.5] * 4)
    assert column(moved, "MB per epoch") == pytest.approx([0.04, 0.008, 0.028, 0.004])
    assert column(moved, "modelled allreduce, ms") == [None, pytest.approx(5), None,
                                                       pytest.approx(5)], "1 ms and 4,000 bytes at 1 us each"


def test_strong_scaling_and_time_to_accuracy(tmp_path):
    points, _ = study([invent(tmp_path / "1", 1, 100), invent(tmp_path / "2", 2, 200)], target=0.8)
    assert kind(points) == "strong"
    assert points[0].reached == [pytest.approx(2 * (10 + 1.5) + 99)], "up to the end of the second epoch"
    assert study([tmp_path / "1"], target=0.95)[0][0].reached == []
    others = [invent(tmp_path / "3", 1, 100, "kakurenbo"), invent(tmp_path / "4", 1, 100, done=False)]
    assert study(others)[1] is None, "no finished run without a filter"


def test_runs_of_other_settings_are_not_pooled(tmp_path):
    invent(tmp_path / "a", 1, 100, train="[optim]\nlr = 0.1\n")
    invent(tmp_path / "b", 1, 400, train="[optim]\nlr = 1.0\n")
    points, _ = study([tmp_path / "a", tmp_path / "b"])
    assert [point.policy for point in points] == ["none optim.lr=0.1", "none optim.lr=1.0"]
    assert [point.policy for point in study([invent(tmp_path / "c", 1, 1),
                                             invent(tmp_path / "d", 1, 1, device="cuda:0")])[0]] == [
                                                 "none device=cpu", "none device=cuda"]


def test_parts_that_nobody_waited_for_are_not_shown(tmp_path):
    cases = {"old": {"speed": False}, "gpu": {"device": "cuda:0"},
             "waited": {"device": "cuda:0", "train": "[record]\nbreakdown = true\n"}}
    tables = {}
    for name, how in cases.items():
        points, target = study([invent(tmp_path / name, 1, 100, **how)])
        tables[name] = scaling_tables(points, target)[1]
        assert (("Not modelled: the runs do not say" in proposal(points, target, load_machine("summit")))
                == (name != "waited"))
    assert (column(tables["old"], "forward") == column(tables["gpu"], "forward") == [None]
            and column(tables["waited"], "forward") == [10])


def test_node_hours(weak):
    table = node_hours(weak[0], 10, 3)
    epoch = 2 * (1000 / 300 + 1.5) / 3600
    assert (column(table, "per epoch (measured)")[1] == pytest.approx(epoch)
            and column(table, "all 3 (modelled)")[1] == pytest.approx(30 * epoch))
    saved = column(table, "saved, %")
    assert saved[:2] == [None, None] and saved[3].mean == pytest.approx(100 * (1 - 5.0 / (1000 / 300 + 1.5)))


def test_walltimes(weak):
    # 100 epochs of 11.6 s and more in jobs that train for 100 s
    table = walltimes(weak[0], 100, walltime=220)
    assert column(table, "jobs") == [12, 5, 9, 5] and column(table, "queue") == ["-"] * 4
    on_summit = walltimes(weak[0], 1, load_machine("summit"), 7200)
    assert (column(on_summit, "queue") == ["batch, debug"] * 4
            and column(on_summit, "walltime of each") == ["02:00:00"] * 4)
    assert column(walltimes(weak[0], 1, load_machine("summit"), 90000), "queue") == ["none takes it"] * 4
    with pytest.raises(InputError, match="got 00:02:00, expected more than the 120 s"):
        walltimes(weak[0], 1, walltime=120)


def test_the_model_is_labelled_and_stops_at_the_data_set(tmp_path, weak):
    summit = load_machine("summit")
    big = [invent(tmp_path / name, ranks, 100, batch=ranks) for name, ranks in (("1", 1), ("2", 2))]
    points = study(big)[0]
    table = at_scale(points, summit, 10)
    assert "modelled" in table.title
    assert column(table, "nodes") == ["1", "2", "4", "8", "16", "32",
                                      "64", "128"], "1,000 samples, one per rank and step"
    ring = [float(cell.split()[-1]) for cell in column(table, "flat ring, efficiency")]
    assert ring == sorted(ring, reverse=True)
    assert ("5 ms of communication per step that was exposed on 2 ranks" in table.notes[0]
            and "makers' figures" in table.notes[0])
    fitted = at_scale(points, summit, 10, {12: Fit(12, (), ((2.2e-3, 1e-9),))})
    assert "0.0001 s per message" in fitted.notes[0] and "fitted to allreduces on 12 ranks" in fitted.notes[0]
    page = proposal(*weak, machine=summit, trainings=2)
    for text in ("2 trainings of 10 epochs over 1,000 samples", "## Scaling, weak", "## Node-hours",
                 "## Storage", "## Walltime mix", "modelled"):
        assert text in page
    assert "Not modelled: give a --machine" in proposal(*weak)


def test_what_is_unfinished_is_named_and_left_out(tmp_path, runs, capsys):
    begun = tmp_path / "s" / "begun"
    begun.mkdir()
    (begun / "metrics.jsonl").write_text('{"kind": "run"}\n{"kind": "ep')
    assert main(["report", str(tmp_path / "s")]) == 0
    out = capsys.readouterr()
    assert "begun has no finished epoch yet" in out.err and "Scaling, weak" in out.out
    assert main(["report", str(begun)]) == 2


def test_runs_of_one_name_are_told_apart(tmp_path, capsys):
    folders = [str(invent(tmp_path / name / "repeat-0", 1, 1)) for name in ("a", "b")]
    assert main(["report", *folders, "--text"]) == 0
    assert [line.split()[0]
            for line in capsys.readouterr().out.splitlines()[1:]] == ["a/repeat-0", "b/repeat-0"]


def test_runs_of_other_data_are_refused(tmp_path, capsys):
    invent(tmp_path / "a", 1, 1, data="x")
    invent(tmp_path / "b", 2, 1, data="y")
    assert main(["report", str(tmp_path)]) == 2
    assert "different data sets" in capsys.readouterr().err


def test_results_become_tables_and_fits(tmp_path, capsys):
    row = {"case": "allreduce", "parameters": {"library": "Horovod"}, "ranks": 2, "edges": [8.0],
           "lines": [[1e-5, 0.0], [0.0, 1e-9]], "date": "2026-01-01", "machine": "m", "commit": None,
           "unit": "s", "versions": {}}
    path = tmp_path / "allreduce.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, "case": "other", "rate": {"a": 1.5}}) + "\n")
    results = read_results(tmp_path)
    assert fits(results)[2].seconds([1, 1000]).tolist() == [1e-5, pytest.approx(1e-6)]
    assert fits(results)[2].link() == Link(5e-6, pytest.approx(1e9))
    first, second = results_tables(results)
    assert (first.title, second.title) == ("allreduce", "other") and column(second, "rate.a") == [1.5]
    assert main(["report", str(path), "--format", "csv", "-o", str(tmp_path / "out.csv")]) == 0
    assert (tmp_path / "out.csv").read_text().startswith("table,date,library")
    path.write_text(json.dumps({**row, "sizes": [4, 1000, 2000], "seconds": [1e-5, 1e-6, 2e-6]}) + "\n")
    assert (main(["report", str(path), "--picture", str(tmp_path / "p.svg")]) == 0
            and "Horovod, 2 ranks" in (tmp_path / "p.svg").read_text())
    path.write_text(json.dumps({**row, "case": "other"}) + "\n")
    assert (main(["report", str(path), "--picture", str(tmp_path / "q.svg")]) == 2
            and "nothing to draw" in capsys.readouterr().err)
    for text, message in (('{"case": "x"}', "parameters, machine, commit, date missing"),
                          ("[1]", "not results of benchmarks"), ("nonsense", "cannot be read as JSON lines")):
        path.write_text(f"{text}\n")
        assert main(["report", str(path)]) == 2 and message in capsys.readouterr().err


def test_a_reader_who_leaves_early_sees_no_traceback(tmp_path):
    invent(tmp_path / "a", 1, 1)
    words = [sys.executable, "-m", "hpcfilter", "report", tmp_path, "--format", "csv"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as done:
        done.stdout.close()
        assert done.stderr.read() == b""
        assert done.wait(60) == 0


@pytest.mark.parametrize("words, message", [
    (["--machine", "mars", "--proposal", "x.md"], "unknown 'mars'"),
    (["--target", "90"], "expected a share of 1"),
    (["--walltime", "2h", "--proposal", "x.md"], "--walltime: got '2h', expected hours"),
    (["--epochs", "3"], "--epochs is of a proposal"),
    (["--proposal", "/nowhere/x.md"], "/nowhere/x.md: cannot be the file to write: no folder"),
    (["--allreduce", "none.jsonl"], "cannot be read as JSON lines"),
    (["--walltime", "00:01:00", "--proposal", "x.md"], "expected more than the 120 s")])
def test_bad_words(tmp_path, capsys, words, message):
    invent(tmp_path / "a", 1, 1)
    assert main(["report", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text, message", [("[1]\n", 'expected rows with a "kind"'),
                                           ("x\n", "not JSON lines"), ("\xff\n", "not JSON lines")])
def test_damaged_records(tmp_path, capsys, text, message):
    (tmp_path / "metrics.jsonl").write_bytes(text.encode("latin1"))
    assert main(["report", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.timeout(300)
def test_a_real_study_from_one_command(tmp_path, digits, warm_ranks, capsys):
    words = ["scaling", "--data", digits, "--ranks", "1", "2", "--epochs", "2", "--repetitions", "1",
             "--kinds", "strong", "--batch", "64", "--set", "model.width=4", "--set", "data.augment=none",
             "--set", "data.shift=1", "--folder", tmp_path / "runs", "--output", tmp_path / "out.jsonl"]
    command = [str(word) for word in words]
    assert benchmarks(command) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["parameters"]["policy"], row["ranks"])
            for row in rows] == [("none", 1), ("none", 2), ("kakurenbo 0.3", 1), ("kakurenbo 0.3", 2)]
    assert all(row["rate"][0] > 0 and row["step"]["forward"] > 0 for row in rows)
    assert (rows[1]["step"]["communication"] > 0
            and rows[3]["bytes"]["selection"] > 40_000 > rows[1]["bytes"]["selection"])
    assert main(["report", str(tmp_path / "runs"), "--picture", str(tmp_path / "p.svg"),
                 "--proposal", str(tmp_path / "p.md"), "--machine", "frontier"]) == 0
    assert ("efficiency" in (tmp_path / "p.svg").read_text()
            and "## On more nodes: all of it modelled" in (tmp_path / "p.md").read_text())
    assert (benchmarks([*command, "--set", "optim.lr=0.2"]) == 2
            and "is of a study with other settings" in capsys.readouterr().err)
