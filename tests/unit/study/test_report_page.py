"""The page of `hpcfilter report`: what is on it, what is said of what is missing, what a data set cannot do
to it; and in a real browser, offline."""

import html
import json
import re
import sys

import numpy as np
import pytest
from pages import Reader, check, invent_probe, invent_run

from hpcfilter.cli import main
from hpcfilter.study.report.curves import MOST
from hpcfilter.study.report.page import _template, page
from hpcfilter.study.report.runs import read_record


def test_what_is_written_where(tmp_path, runs, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = invent_run(tmp_path / "run")
    assert (main(["report", str(run)]) == 0
            and capsys.readouterr().out == f"{run}/report.html: open it in a browser\n")
    assert (main(["report", *map(str, runs)]) == 0
            and capsys.readouterr().out == "report.html: open it in a browser\n")
    assert ((tmp_path / "report.html").read_text().startswith("<!doctype html>")
            and (run / "report.html").exists())
    assert main(["report", str(run), "-o", "own.html", "--picture", "own.svg"]) == 0
    assert capsys.readouterr().out == "own.svg: drawn\nown.html: open it in a browser\n"
    for words in (["--text"], ["--format", "text"], ["--format", "csv"], ["--picture", "p.svg"]):
        assert main(["report", str(run), *words]) == 0 and "passes saved" in capsys.readouterr().out
    assert (main(["report", str(run), "-o", "own.txt"]) == 0
            and (tmp_path / "own.txt").read_text().startswith("run  "))
    assert main(["report", str(run), "-o", "/nowhere/own.html"]) == 2
    assert "/nowhere/own.html: cannot be the file to write: no folder /nowhere" in capsys.readouterr().err
    assert (main(["report", str(run), "--text", "--format", "csv"]) == 2
            and "not allowed with" in capsys.readouterr().err)
    assert main(["report", str(run), str(run), "-o", "twice.html"]) == 0


def test_without_plotly_or_pillow(tmp_path, runs, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    without = Reader(page(runs))
    assert (without.says("No pictures: writing them needs Pillow") and not without.elements["img"]
            and without.says("importance"))
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert main(["report", str(runs[0])]) == 2
    assert ("report: the page needs plotly: pip install 'hpcfilter[report]'; "
            "or give --text" in capsys.readouterr().err)


def test_everything_is_on_the_page(text):
    seen = Reader(text)
    assert set(seen.specs()) == {"quality", "worst", "hidden", "threshold", "phases0", "phases1", "scores0",
                                 "map0", "lines0-loss", "lines0-barrier", "planes0-full", "planes0-filtered"}
    for words in ("2 runs compared", "97.01 %", "test accuracy", "28.0 %", "passes saved", "4 (2 per node)",
                  "000000000000", "torch 2.13.0", "Lowest importance", "Around the threshold",
                  "Highest importance", "31.2, 12.5, 8.1", "240 ± 12", "The map shows 300 of 1,281,167 "
                  "samples: 270 drawn by hash, and the 30 at the ends and around the threshold.",
                  "The 24 samples of lowest importance.", "The 24 samples around the threshold.",
                  "The 24 samples of highest importance; wrong labels often gather here.",
                  "What the numbers mean", "eval mode and float32",
                  "4,096 of 1,281,167 samples, drawn by hash; over 2,048 of 896,816 kept samples"):
        assert seen.says(words), words
    assert [view["name"] for view in seen.specs()["map0"]["views"]] == ["score", "class", "kept"]
    pictures = [value for name, value in seen.attributes if name == "src"]
    assert (len(pictures) == seen.elements["img"] == 72
            and all(value.startswith("data:image/png;base64,") for value in pictures))
    assert all(value for name, value in seen.attributes if name == "alt")
    assert not re.findall(r'(?:src|href)="(?!data:image/png|#)',
                          text.partition('<script type="application/json"')[0])


def test_what_is_missing_is_said(runs, text):
    seen = Reader(text)
    assert seen.says("No selection of this run has left a histogram of its scores.")
    assert seen.says(f"no landscape yet: hpcfilter probe '{runs[1]}' makes them")
    alone = Reader(page(runs[1:]))
    assert (alone.says("No epoch of these runs has had a threshold.")
            and set(alone.specs()) == {"quality", "worst", "hidden", "phases0"})


@pytest.mark.parametrize("how", [
    {"classes": None}, {"pictures": False}, {"sets": ()}, {"sets": ("full",), "curvature": False},
    {"drawn": 41, "channels": ()}, *({"channels": (count,)} for count in (1, 2, 4, 5)),
    {"classes": [str(number) for number in range(1000)], "drawn": 3000}], ids=str)
def test_probes_of_all_kinds(tmp_path, how):
    run = invent_run(tmp_path / "run", accuracy=how.get("classes", ()) is not None)
    invent_probe(run, **how)
    seen = Reader(page([run]))
    views = [view["name"] for view in seen.specs()["map0"]["views"]]
    assert views == (["score", "kept"] if how.get("classes", ()) is None else ["score", "class", "kept"])
    assert (("planes0-full" in seen.specs()) == (how.get("sets") != ())
            and bool(seen.elements["img"]) == how.get("pictures", True))
    for spec in seen.specs().values():
        check(spec)


def test_plotly_knows_every_word(text):
    for spec in Reader(text).specs().values():
        check(spec)


def test_nothing_of_a_data_set_becomes_markup(text):
    seen = Reader(text)
    assert [kind for kind, _ in seen.scripts] == ["application/json", None, None]
    assert not [name for name, _ in seen.attributes if name.startswith("on")] and not seen.elements["i"]
    assert seen.says("<i>kakurenbo") and seen.says("<script>alert(1)</script>") and seen.says("{{ 7 * 7 }}")
    for spec in seen.specs().values():
        for view in (*spec["views"], spec["columns"]):
            assert ("<script" not in json.dumps(view) and "<img" not in json.dumps(view)
                    and "<i>" not in json.dumps(view))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    assert (policy.startswith("default-src 'none'")
            and len(re.findall(r"'sha256-[^']{44}'", html.unescape(policy))) == 2)


def test_long_runs_are_thinned_and_it_is_said(tmp_path):
    run = invent_run(tmp_path / "long", epochs=MOST + 500)
    seen = Reader(page([run]))
    line = seen.specs()["quality"]["views"][0]["data"][0]
    assert (len(line["x"]) == MOST and (line["x"][0], line["x"][-1]) == (1, MOST + 500)
            and line["mode"] == "lines")
    assert seen.says("long: 2,000 epochs are drawn, evenly spaced over all of them.")
    assert len(seen.specs()["scores0"]["views"]) == 60 and seen.says("60 of 2,499 epochs, evenly spaced.")
    assert "stackgroup" in seen.specs()["phases0"]["views"][0]["data"][0]


def test_the_barrier_starts_at_this_run(text):
    chart = Reader(text).specs()["lines0-barrier"]
    line = chart["views"][0]["data"][0]
    loss = dict(zip(line["x"], line["y"], strict=True))
    assert ((loss[0.0], loss[1.0]) == (0.1, 0.4)
            and chart["layout"]["xaxis"]["title"]["text"] == "share of the way to &lt;b&gt;none")
    assert Reader(text).says("0: the weights of <i>kakurenbo; 1: those of runs/<b>none.")


def test_damaged_probes_are_refused_where_nothing_else_is_left(tmp_path, capsys):
    run, good = invent_run(tmp_path / "run"), invent_run(tmp_path / "good")
    (run / "probe.h5").write_bytes(b"nonsense")
    assert main(["report", str(run)]) == 2 and "probe.h5" in capsys.readouterr().err
    seen = Reader(page([run, good]))
    assert (seen.says(f"The probe cannot be shown: {run}/probe.h5: ")
            and not seen.says(f"hpcfilter probe {run} makes them"))


def test_runs_that_have_just_begun_are_named(tmp_path, capsys):
    begun, good = invent_run(tmp_path / "begun", epochs=0), invent_run(tmp_path / "good")
    seen = Reader(page([begun, good]))
    assert (seen.says(f"{begun} has no finished epoch yet, and is left out.") and seen.says("The run")
            and seen.elements["article"] == 1)
    assert main(["report", str(begun)]) == 2 and "holds no finished epoch yet" in capsys.readouterr().err
    assert main(["report", str(good), str(begun), "-o", str(tmp_path / "p.html"),
                 "--picture", str(tmp_path / "p.svg")]) == 2
    assert not (tmp_path / "p.html").exists(), "what cannot be drawn is refused before anything is written"
    assert (main(["report", str(good), str(tmp_path / "gone")]) == 2
            and "expected a run folder" in capsys.readouterr().err)


@pytest.mark.parametrize("more, words", [
    ({}, ""), ({"data": "e"}, "This probe is of other data than the run: of e, the run of d."),
    ({"weights": "<i>"},
     "This probe is of other weights than the run's: of <i>, the run has ended with 00ff."),
    ({"epoch": 12}, "This probe is of other weights than the run's: of epoch 13, the run has 12."),
    ({"epoch": 3, "weights": "other"}, "")], ids=str)
def test_a_probe_of_something_else_is_questioned(tmp_path, more, words):
    run = invent_run(tmp_path / "run")
    invent_probe(run, **more)
    seen = Reader(page([run]))
    assert seen.says(words) and seen.says("This probe is of other") == bool(words)


def test_every_run_has_thumbnails(tmp_path):
    many = invent_run(tmp_path / "run")
    invent_probe(many)
    seen = Reader(page([many] * 70))
    assert seen.elements["img"] == 70 * 3 * 3 and seen.says("The 3 samples of lowest importance.")


def test_no_number_is_written_that_json_does_not_know(tmp_path, capsys):
    run = invent_run(tmp_path / "run")
    rows = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(rows.replace('"passes": 0.72', '"passes": NaN', 1))
    assert (main(["report", str(run)]) == 2
            and "metrics.jsonl: not JSON lines: got NaN, expected finite numbers" in capsys.readouterr().err)
    with pytest.raises(ValueError, match="not JSON compliant"):
        _template().environment.from_string("{{ number|tojson }}").render(number=np.nan)


@pytest.mark.timeout(240)
def test_a_real_run_that_was_really_probed(tmp_path, digits, config, capsys):
    run = tmp_path / "run"
    assert main(["train", str(config(digits, filter={"policy": "kakurenbo", "fraction": 0.3},
                                     train={"epochs": 3})), "--run-dir", str(run)]) == 0
    few = ["--what", "slices,map", "--samples", "60", "--points", "3", "--grid", "3", "--directions", "1"]
    assert main(["probe", str(run), *few]) == 0 and main(["report", str(run)]) == 0, capsys.readouterr().err
    seen = Reader((run / "report.html").read_text())
    assert {"quality", "hidden", "threshold", "phases0", "scores0", "map0", "lines0-loss",
            "planes0-full"} <= set(seen.specs())
    assert (seen.says("of 1,438 samples, drawn by hash") and seen.says("60 of 1,438 samples, drawn by hash")
            and seen.elements["img"] > 20)
    assert (sum(seen.specs()["scores0"]["views"][-1]["data"][0]["y"])
            == read_record(run).epochs[-1]["hidden"] > 0)
    for spec in seen.specs().values():
        check(spec)
