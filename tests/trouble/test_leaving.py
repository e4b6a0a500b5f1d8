"""Leaving in time, on real ranks: signals and deadlines, the marker, and a resumed run with the same bits."""

import json
import os
import signal
import time

import psutil
import pytest
from conftest import TIMEOUT

from hpcfilter.base.alive import notice
from hpcfilter.base.errors import InputError
from hpcfilter.cli import main
from hpcfilter.jobs import ranks_of, started
from hpcfilter.study.report import read_run
from hpcfilter.train import checkpoint

KAKURENBO = {"policy": "kakurenbo", "fraction": 0.3, "tau": 0.2}
IN_TIME = 10  # seconds from the signal to the committed checkpoint


@pytest.fixture
def long_run(digits, config):
    """A run that takes much longer than the test."""
    return config(digits, train={"epochs": 2000, "global_batch": 60}, filter=KAKURENBO)


def until(condition, what):
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, f"waited {TIMEOUT} s for {what}"
        time.sleep(0.02)


def rows(run_dir, kind):
    try:
        return [row for row in map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
                if row["kind"] == kind]
    except OSError:
        return []


def steady(row):
    """A row without its times."""
    return {key: value for key, value in row.items() if key != "seconds"}


@pytest.mark.parametrize("name, target",
                         [pytest.param("USR1", "one", marks=pytest.mark.nightly),
                          pytest.param("USR2", "all", marks=pytest.mark.nightly),
                          pytest.param("TERM", "one", marks=pytest.mark.nightly), ("USR1", "launcher")])
def test_a_signal_saves_and_asks_for_a_requeue(tmp_path, long_run, real_ranks, name, target):
    words = ["-m", "hpcfilter", "train", long_run, "--run-dir", tmp_path / "run"]
    with started(2, words, capture=True) as launcher:
        until(lambda: len(rows(tmp_path / "run", "epoch")) > 1, "two epochs")
        number, ranks, start = getattr(signal, f"SIG{name}"), ranks_of(launcher), time.time()
        for process in {"one": ranks[1:], "all": ranks, "launcher": [launcher]}[target]:
            os.kill(process.pid, number)
        out, err = launcher.communicate(timeout=TIMEOUT)
    assert launcher.returncode == 0, err
    newest = checkpoint.generations(tmp_path / "run" / "checkpoints")[-1]
    assert checkpoint.read_stamp(newest) and 0 <= newest.stat().st_mtime - start < IN_TIME
    assert (tmp_path / "run" / "REQUEUE").exists() and not (tmp_path / "run" / "DONE").exists()
    assert (rows(tmp_path / "run", "stop")[0]["reason"] == f"signal {name}"
            and f"told to leave by signal {name}" in out)
    assert (tmp_path / "run" / "REQUEUE").stat().st_mtime_ns >= newest.stat().st_mtime_ns, (
        "the marker comes after the checkpoint")


def test_signals_again_and_again_do_no_harm(tmp_path, long_run, real_ranks):
    """Some hit the save, some the end of MPI."""
    with started(2, ["-m", "hpcfilter", "train", long_run, "--run-dir", tmp_path / "run"],
                 capture=True) as launcher:
        until(lambda: rows(tmp_path / "run", "epoch"), "an epoch")
        ranks = ranks_of(launcher)
        for process in ranks:
            process.send_signal(signal.SIGUSR1)
        while launcher.poll() is None:
            for process in ranks:
                try:
                    process.send_signal(signal.SIGUSR1)
                    process.send_signal(signal.SIGTERM)
                except psutil.NoSuchProcess:
                    pass
            time.sleep(0.005)
        _, err = launcher.communicate(timeout=TIMEOUT)
    assert launcher.returncode == 0, err
    assert (tmp_path / "run" / "REQUEUE").exists()
    assert checkpoint.read_stamp(checkpoint.generations(tmp_path / "run" / "checkpoints")[-1])


@pytest.mark.nightly
def test_a_signal_while_torch_is_being_imported(tmp_path, long_run, real_ranks):
    """One that comes before the first step is not lost, and kills nothing."""
    with started(2, ["-m", "hpcfilter", "train", long_run, "--run-dir", tmp_path / "run"],
                 capture=True) as launcher:
        until(lambda: len(ranks_of(launcher)) == 2, "the ranks")
        rank = ranks_of(launcher)[0]
        until(lambda: any("libtorch_cpu" in part.path for part in rank.memory_maps()), "the import of torch")
        assert not (tmp_path / "run").exists()
        rank.send_signal(signal.SIGUSR1)
        _, err = launcher.communicate(timeout=TIMEOUT)
    assert launcher.returncode == 0, err
    assert (tmp_path / "run" / "REQUEUE").exists()


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.nightly), 2])
def test_a_chain_of_deadlines_ends_with_the_same_bits(tmp_path, digits, config, hpcfilter, ranks):
    """Left inside an epoch again and again, by a network with BatchNorm: the weights and rows are those
    of a run in one piece."""
    path = config(digits, train={"epochs": 3, "global_batch": 20}, filter=KAKURENBO,
                  data={"augment": "shift"})
    assert hpcfilter(ranks, "train", path, "--run-dir", tmp_path / "whole").returncode == 0
    stops = 0
    while not (tmp_path / "cut" / "DONE").exists() and stops < 40:
        # The deadline has passed before the start: each job leaves at its first agreement.
        done = hpcfilter(ranks, "train", path, "--run-dir", tmp_path / "cut",
                         "--resume", HPCFILTER_DEADLINE="1" if stops % 5 < 4 else "")
        assert done.returncode == 0, done.stderr
        stops += 1
    stopped = rows(tmp_path / "cut", "stop")
    assert stopped and stopped[0]["reason"] == "the deadline" and stopped[0]["step"] > 0
    (_, whole, end), (_, cut, resumed) = read_run(tmp_path / "whole"), read_run(tmp_path / "cut")
    assert [steady(row) for row in cut] == [steady(row) for row in whole]
    assert resumed["weights"] == end["weights"] and resumed["passes"] == end["passes"]


def test_dropout_goes_on_with_the_same_draws(tmp_path, regression, config, monkeypatch):
    path = config(regression, model={"name": None, "width": None, "factory": "custom:perceptron"},
                  train={"epochs": 2, "global_batch": 20})
    assert main(["train", str(path), "--run-dir", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as job:
        job.setenv(notice.DEADLINE, "1")
        assert main(["train", str(path), "--run-dir", str(tmp_path / "cut")]) == 0
    assert rows(tmp_path / "cut", "stop")[0]["step"] > 0
    assert main(["train", str(path), "--run-dir", str(tmp_path / "cut"), "--resume"]) == 0
    ends = [rows(tmp_path / name, "end")[0]["weights"] for name in ("whole", "cut")]
    assert ends[0] == ends[1]


def test_inside_an_epoch_on_another_number_of_ranks(tmp_path, digits, config, hpcfilter):
    import shutil

    path = config(digits, train={"epochs": 2, "global_batch": 20}, filter=KAKURENBO,
                  model={"name": "mlp", "width": None})
    assert hpcfilter(2, "train", path, "--run-dir", tmp_path / "whole").returncode == 0
    assert hpcfilter(2, "train", path, "--run-dir", tmp_path / "2",
                     HPCFILTER_FAULT="rank=0,point=after_step,n=100,kind=sigkill",).returncode != 0
    assert hpcfilter(2, "train", path, "--run-dir", tmp_path / "2",
                     "--resume", HPCFILTER_DEADLINE="1").returncode == 0
    (stop,) = rows(tmp_path / "2", "stop")
    assert stop["epoch"] == 1 and stop["step"] > 0, ("left inside the second epoch, "
                                                     "whose selection hides samples")
    _, whole, end = read_run(tmp_path / "whole")
    assert whole[1]["hidden"] > 0
    for ranks in (1, 3):
        shutil.copytree(tmp_path / "2", tmp_path / str(ranks))
    for ranks in (1, 2, 3):
        done = hpcfilter(ranks, "train", path, "--run-dir", tmp_path / str(ranks), "--resume")
        assert done.returncode == 0 and f"from epoch 1, step {stop['step']}" in done.stdout, done.stderr
        _, epochs, resumed = read_run(tmp_path / str(ranks))
        for key in ("selection", "batches", "kept", "steps", "passes", "refreshed"):
            assert epochs[1][key] == whole[1][key], key
        assert epochs[1]["train_loss"] == pytest.approx(whole[1]["train_loss"], rel=1e-5)
        assert resumed["accuracy"] == pytest.approx(end["accuracy"], abs=0.01)


@pytest.mark.nightly
def test_in_shard_order_another_number_of_ranks_goes_back_to_the_last_whole_epoch(tmp_path, digits,
                                                                                  config, hpcfilter):
    path = config(digits, train={"epochs": 2, "global_batch": 20}, data={"order": "shard"}, filter=KAKURENBO,
                  checkpoint={"keep": 1})
    assert hpcfilter(2, "train", path, "--run-dir", tmp_path / "run",
                     HPCFILTER_FAULT="rank=0,point=after_step,n=100,kind=exception").returncode != 0
    assert hpcfilter(2, "train", path, "--run-dir", tmp_path / "run",
                     "--resume", HPCFILTER_DEADLINE="1").returncode == 0
    inside = checkpoint.generations(tmp_path / "run" / "checkpoints")[-1].name
    assert "-step-" in inside
    done = hpcfilter(3, "train", path, "--run-dir", tmp_path / "run", "--resume")
    assert done.returncode == 0, done.stderr
    assert (f"{inside}: was taken inside an epoch on 2 ranks; "
            "in shard order 3 cannot go on with it" in done.stderr and "from epoch 1\n" in done.stdout)


@pytest.mark.nightly
def test_saves_inside_an_epoch_change_nothing(tmp_path, digits, config, hpcfilter):
    tables = {"train": {"epochs": 3, "global_batch": 20}, "filter": KAKURENBO, "data": {"augment": "shift"}}
    ends = []
    for number, saves in enumerate(({}, {"seconds": 0.05, "keep": 1000})):
        assert hpcfilter(2, "train", config(digits, **tables, checkpoint=saves),
                         "--run-dir", tmp_path / f"r{number}").returncode == 0
        ends.append(read_run(tmp_path / f"r{number}")[2])
    inside = [path for path in checkpoint.generations(tmp_path / "r1" / "checkpoints")
              if not checkpoint.ends_epoch(path)]
    assert len(inside) > 3 and ends[0]["weights"] == ends[1]["weights"]
    assert ends[1]["checkpoints"]["saves"] == len(inside) + 3 and ends[0]["checkpoints"]["saves"] == 3


def test_a_deterministic_run_with_more_ranks_than_samples_in_a_batch(tmp_path, digits, config, hpcfilter):
    """Some ranks have nothing to train in a step, and still take part in every sum."""
    path = config(digits, train={"epochs": 1, "global_batch": 3, "deterministic": True},
                  model={"name": "mlp", "width": None}, filter={"policy": "random", "fraction": 0.9},
                  stop={"stall_seconds": 20})
    done = hpcfilter(4, "train", path, "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr


def test_the_seconds_of_an_epoch_are_those_of_all_its_parts(tmp_path, digits, config, hpcfilter):
    path = config(digits, train={"epochs": 1, "global_batch": 20})
    assert hpcfilter(1, "train", path, "--run-dir", tmp_path / "run", HPCFILTER_DEADLINE="1").returncode == 0
    newest = checkpoint.generations(tmp_path / "run" / "checkpoints")[-1]
    before = checkpoint.read_stamp(newest)["seconds"]
    assert before["train"] > 0 and before["select"] > 0
    assert hpcfilter(1, "train", path, "--run-dir", tmp_path / "run", "--resume").returncode == 0
    (row,) = rows(tmp_path / "run", "epoch")
    assert row["seconds"]["train"] > before["train"] and row["seconds"]["total"] >= sum(before.values())


def test_a_finished_run_is_left_as_it_is(tmp_path, digits, config, hpcfilter):
    path = config(digits, train={"epochs": 1})
    assert hpcfilter(2, "train", path, "--run-dir", tmp_path / "run").returncode == 0
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    done = hpcfilter(2, "train", path, "--run-dir", tmp_path / "run", "--resume")
    assert done.returncode == 0 and "the run is finished" in done.stdout
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


def test_as_many_samples_per_step_on_another_number_of_ranks(tmp_path, digits, config, hpcfilter):
    """With train.batch, the samples per rank, the global batch is what counts."""
    path = config(digits, train={"epochs": 1, "global_batch": None, "batch": 60})
    assert hpcfilter(2, "train", path, "--run-dir", tmp_path / "run").returncode == 0
    more = ["--run-dir", tmp_path / "run", "--resume", "--set", "train.epochs=2"]
    done = hpcfilter(3, "train", path, *more)
    assert done.returncode == 2 and "train.global_batch: the run began with 120, got 180" in done.stderr
    assert hpcfilter(3, "train", path, *more, "--set", "train.batch=40").returncode == 0


@pytest.mark.parametrize("ranks", [3, pytest.param(4, marks=pytest.mark.nightly)])
def test_a_deterministic_run_is_equal_bits_on_three_ranks_and_more(tmp_path, digits, config,
                                                                   hpcfilter, ranks):
    path = config(digits, train={"epochs": 3, "global_batch": 60, "deterministic": True}, model={"width": 16},
                  filter=KAKURENBO)
    ends = set()
    for number in range(2):
        assert hpcfilter(ranks, "train", path, "--run-dir", tmp_path / str(number)).returncode == 0
        ends.add(read_run(tmp_path / str(number))[2]["weights"])
    fault = "rank=2,point=after_step,n=30,kind=sigkill"
    assert hpcfilter(ranks, "train", path, "--run-dir", tmp_path / "cut",
                     HPCFILTER_FAULT=fault).returncode != 0
    assert hpcfilter(ranks, "train", path, "--run-dir", tmp_path / "cut", "--resume").returncode == 0
    ends.add(read_run(tmp_path / "cut")[2]["weights"])
    assert len(ends) == 1


def test_the_deadline_is_read_from_the_environment(monkeypatch):
    assert notice.deadline({}) == float("inf") and notice.deadline({notice.DEADLINE: "123.5"}) == 123.5
    with pytest.raises(InputError, match=r"HPCFILTER_DEADLINE: got 'noon', expected seconds since 1970"):
        notice.deadline({notice.DEADLINE: "noon"})
    monkeypatch.setenv(notice.DEADLINE, str(time.time() + 1000))
    assert notice.reason() == ""
    monkeypatch.setenv(notice.DEADLINE, str(time.time() - 1))
    assert notice.reason() == "the deadline"


def test_signals_are_listened_to_only_as_long_as_wanted():
    before = {name: signal.getsignal(getattr(signal, f"SIG{name}"))
              for name in ("USR1", "USR2", "TERM", "HUP")}
    notice.listen()
    notice.listen(["USR1", "HUP"])  # others than at first, as a run config says
    assert (signal.getsignal(signal.SIGUSR2) == before["USR2"]
            and signal.getsignal(signal.SIGTERM) == before["TERM"])
    os.kill(os.getpid(), signal.SIGHUP)
    assert notice.reason() == "signal HUP"
    notice.listen(())
    assert (notice.reason() == ""
            and before == {name: signal.getsignal(getattr(signal, f"SIG{name}")) for name in before})


@pytest.mark.parametrize("tables, message", [
    ({"stop": {"signals": ["KILL"]}},
     "KILL is no signal that can be caught; expected names such as USR1, USR2, TERM"),
    ({"stop": {"signals": ["SIGUSR1"]}}, "SIGUSR1 is no signal"),
    ({"stop": {"stall_seconds": -1}}, "stop.stall_seconds: expected 0 or more"),
    ({"checkpoint": {"seconds": "auto"}}, 'seconds = "auto" needs mtbf_hours'),
    ({"checkpoint": {"seconds": 0}}, "checkpoint.seconds"),
])
def test_mistakes_in_the_config(tmp_path, digits, config, capsys, tables, message):
    assert main(["train", str(config(digits, **tables)), "--run-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "run").exists()
