"""The evidence: arms of a plan, variants of the data, differences at equal compute, and a plan run twice."""

import json
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from conftest import CHECKOUT

from benchmarks.__main__ import main
from benchmarks.evidence import resolved
from benchmarks.evidence_plan import Plan, arms
from benchmarks.evidence_table import against, at_equal_compute, evidence_tables
from benchmarks.variants import packed
from hpcfilter.base.settings import Settings
from hpcfilter.data import open_packed
from hpcfilter.train.checks import check_run
from hpcfilter.train.config import load

PLANS = CHECKOUT / "benchmarks" / "plans"
PLAN = """
config = "{config}"
data = ["clean"]
epochs = 2
seeds = 2
fractions = [0.5]
set = {{ "model" = {{ name = "mlp" }} }}
batch = [{{ size = 100 }}]
[[policy]]
name = "KAKURENBO"
filter = {{ policy = "kakurenbo", fraction = [0.4], tau = 0.0 }}
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """1,000 training and 200 test images of random pixels, 10 classes."""
    path, rng = tmp_path_factory.mktemp("source") / "source.h5", np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for split, rows in (("train", 1000), ("test", 200)):
            file[f"{split}/images"] = rng.integers(0, 256, (rows, 4, 4), np.uint8)
            file[f"{split}/labels"] = (np.arange(rows) % 10).astype(np.uint8)
        file.attrs["class_names"] = json.dumps([str(number) for number in range(10)])
    return path


def test_wrong_labels_are_others_and_forty_in_a_hundred(source, tmp_path):
    clean, noisy = (open_packed(packed(source, name, tmp_path)) for name in ("clean", "noise_40"))

    def labels(split):
        return {image.tobytes(): int(label)
                for image, label in zip(split.images[:], split.labels[:], strict=True)}

    right, given = labels(clean.train), labels(noisy.train)
    assert (set(right) == set(given) and np.mean([right[image] != label for image, label in given.items()])
            == pytest.approx(0.4, abs=0.05))
    assert labels(noisy.test) == labels(clean.test), "the test rows keep their labels"


def test_a_long_tail_falls_by_a_factor_of_a_hundred(source, tmp_path):
    tail = open_packed(packed(source, "long_tail", tmp_path))
    counts = np.bincount(tail.train.labels[:], minlength=10)
    assert counts[0] == 100 and counts[9] <= 5 and 15 < counts[4] + counts[3] < 50
    assert (np.bincount(tail.test.labels[:]) == 20).all()


def test_validation_rows_come_from_training(source, tmp_path):
    held = open_packed(packed(source, "clean+validation", tmp_path))
    assert len(held.train) + len(held.test) == 1000 and 70 < len(held.test) < 130


def test_baselines_stand_in_every_plan(tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN.format(config="run.toml"))
    found = arms(Settings(tmp_path / "plan.toml").validated(Plan))
    assert [(arm.name, arm.role, arm.epochs) for arm in found] == [
        ("all data", "full", 2), ("all data, 1 epochs", "short", 1), ("random 0.5", "random", 2),
        ("KAKURENBO 0.5", "policy", 2)]
    assert found[3].settings["filter"] == {"policy": "kakurenbo", "fraction": 0.4, "tau": 0.0}


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_plans_that_ship_are_valid(path, tmp_path, monkeypatch):
    """Every arm is a run that `train` takes."""
    monkeypatch.chdir(PLANS.parent.parent)
    plan = Settings(path).validated(Plan)
    assert len({arm.folder for arm in arms(plan)}) == len(arms(plan)), "no two arms share a folder"
    for arm in arms(plan):
        (tmp_path / "run.toml").write_text(resolved(plan, {arm.data: "data.h5"},
                                                    SimpleNamespace(arm=arm, seed=0)).toml())
        check_run(load(tmp_path / "run.toml"), None, plan.ranks)


@pytest.mark.parametrize("path", sorted((PLANS.parent / "results").glob("evidence_*.jsonl")),
                         ids=lambda path: path.stem)
def test_the_recorded_evidence_can_be_read(path):
    """Whatever the keys of run configs were called when it was recorded."""
    tables = evidence_tables([json.loads(line) for line in path.read_text().splitlines()])
    assert tables and all(table.rows and "-" not in table.rows[0][2]
                          for table in tables if "landscape" not in table.title)


def row(arm, role, compute, accuracy, seeds=(0, 1)):
    each = [compute] * len(seeds)
    about = {"data": "clean", "batch": 256, "arm": arm, "role": role,
             "settings": {"filter": {"policy": "none"}}}
    return {"parameters": about, "seeds": list(seeds), "failed": 0, "landscape": {}, "accuracy": accuracy,
            "worst_class": accuracy, "passes": each, "compute": each, "seconds": each, "core_seconds": each}


ROWS = [row("all data", "full", 1.0, [0.90, 0.92]), row("random 0.5", "random", 0.5, [0.80, 0.84]),
        row("ours", "policy", 0.75, [0.89, 0.91]), row("all data, 5 epochs", "short", 0.5, [0.86, 0.88])]


def test_random_choice_at_equal_compute_lies_on_the_line():
    assert at_equal_compute(ROWS[2], ROWS) == pytest.approx({0: 0.85, 1: 0.88})
    assert against(ROWS[2], at_equal_compute(ROWS[2], ROWS)).mean == pytest.approx(3.5)
    assert at_equal_compute(row("less", "policy", 0.3, [0.8, 0.8]), ROWS) == {}, "nothing is known outside"
    assert (at_equal_compute(ROWS[2], [row("all data", "full", 1.0, [0.9], seeds=[0]), *ROWS[1:]])
            == pytest.approx({0: 0.85})), "seeds that all have"


def test_the_table_says_the_differences():
    text = evidence_tables(ROWS)[0].text()
    assert "clean, batch 256" in text and "-1.00 ± 0.00" in text and "+3.50" in text
    ours, random = (next(line for line in text.splitlines() if line.startswith(name))
                    for name in ("ours", "random"))
    assert "+1.00" in ours, "to the shortened schedule: 88 and 90 % on the line"
    assert "+0.00" not in random, "an arm is not compared with itself"


def test_seeds_that_failed_are_not_left_out_of_a_mean():
    text = evidence_tables([ROWS[0], {**ROWS[2], "failed": 1, "seeds": [0], "accuracy": [0.95]}])[0].text()
    assert "1, 1 failed" in text and "95.00" not in text


def test_the_landscape_has_a_table_of_its_own():
    shape = {"full": {"eigenvalue": [4.0, 6.0]}, "filtered": {"eigenvalue": [8.0, 8.0]}}
    tables = evidence_tables([{**ROWS[0], "landscape": shape}])
    assert [table.title for table in tables] == ["clean, batch 256", "clean, batch 256: the landscape"]
    assert [line[:4] for line in tables[1].rows] == [["all data", 2, "-", "5"]], (
        "it keeps everything: there is one set only")
    tables = evidence_tables([{**ROWS[0], "landscape": shape, "parameters":
                               {**ROWS[0]["parameters"], "settings": {"filter": {"policy": "random"}}}}])
    assert [line[:4] for line in tables[1].rows] == [["all data", 2, "- / -", "5 / 8"]]


def test_a_plan_runs_and_a_second_call_trains_nothing(source, tmp_path, config, digits, warm_ranks, capsys):
    (tmp_path / "plan.toml").write_text(PLAN.format(config=config(digits, model={"width": None})))
    words = ["evidence", str(tmp_path / "plan.toml"), "--source", str(source),
             "--folder", str(tmp_path / "runs"), "--output", str(tmp_path / "out.jsonl")]
    assert main(words) == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["parameters"]["arm"] for line in lines] == ["all data", "all data, 1 epochs", "random 0.5",
                                                             "KAKURENBO 0.5"]
    assert (all(line["seeds"] == [0, 1] for line in lines) and lines[0]["passes"] == [1, 1]
            and lines[2]["compute"] == [0.5, 0.5])
    assert lines[3]["compute"][0] > lines[3]["passes"][0], "looks at hidden samples count"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("metrics.jsonl")}
    assert (len(before) == 8 and main(words) == 0
            and before == {path: path.stat().st_mtime_ns for path in before}), "no run was trained again"
    capsys.readouterr()
    (tmp_path / "plan.toml").write_text((tmp_path / "plan.toml").read_text()
                                        .replace("epochs = 2", "epochs = 3"))
    assert (main(words) == 2
            and "is of a run with other settings than the plan has now" in capsys.readouterr().err)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 4, "what was there is still there"


def test_a_run_that_fails_is_named_and_the_others_are_shown(source, tmp_path, config, digits,
                                                            warm_ranks, capsys):
    plan = PLAN.format(config=config(digits, model={"width": None})).replace("seeds = 2", "seeds = 1")
    plan = plan.replace('filter = { policy = "kakurenbo", fraction = [0.4], tau = 0.0 }',
                        'set = { "optim.lr" = 1e30 }')
    (tmp_path / "plan.toml").write_text(plan)
    words = ["evidence", str(tmp_path / "plan.toml"), "--source", str(source),
             "--folder", str(tmp_path / "runs"), "--output", str(tmp_path / "out.jsonl")]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert ("0, 1 failed" in out and "1 runs have failed; why stands in" in err
            and "diverged" in next((tmp_path / "runs").rglob("FAILED")).read_text())


def test_a_plan_with_an_unknown_key_is_refused(tmp_path, capsys):
    (tmp_path / "plan.toml").write_text('config = "run.toml"\nsead = 3\n')
    assert main(["evidence", str(tmp_path / "plan.toml"), "--source", "x.h5"]) == 2
    assert "plan.toml, line 2: sead: unknown key" in capsys.readouterr().err
