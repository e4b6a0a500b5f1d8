"""Ctrl-C: what there is to save is saved, one line says so, the exit code is 130, and no file of ours
is left half written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcfilter.base.alive import notice
from hpcfilter.cli import main
from hpcfilter.jobs import mpirun, ranks_of
from hpcfilter.jobs.local import environment
from hpcfilter.study.report import read_run

KAKURENBO = {"policy": "kakurenbo", "fraction": 0.3, "tau": 0.2}
LONG = {"train": {"epochs": 2000, "global_batch": 60}, "filter": KAKURENBO}


@pytest.fixture
def ctrl_c(monkeypatch):
    """ctrl_c(module, name, after, times): the function `name` of a module sends Ctrl-C at
    its call number `after`."""
    # the tests may run where it is ignored, and so would all that they start
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def set_up(module, name, after=1, times=1):
        real, calls = getattr(module, name), []

        def wrapped(*arguments, **more):
            calls.append(name)
            if len(calls) == after:
                for _ in range(times):
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0)  # where Python calls the handler
            return real(*arguments, **more)

        monkeypatch.setattr(module, name, wrapped)

    yield set_up
    notice.listen(())
    signal.signal(signal.SIGINT, before)

def interrupted(words, capsys, line="hpcfilter: interrupted"):
    """Ctrl-C ends the command with one line of ours, the last one."""
    assert main([str(word) for word in words]) == 130
    err = capsys.readouterr().err
    ours = [text for text in err.splitlines() if text.startswith("hpcfilter: ")]
    assert len(ours) == 1 and ours[0].startswith(line) and "Traceback" not in err, err
    return ours[0]


def stops(run_dir):
    """Why a run was left, each time."""
    return [row["reason"] for row in map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
            if row["kind"] == "stop"]


def test_a_run_saves_and_goes_on_to_the_same_bits(tmp_path, digits, config, ctrl_c, capsys):
    from hpcfilter.train import step

    path = config(digits, train={"epochs": 3}, filter=KAKURENBO)
    assert main(["train", str(path), "--run-dir", str(tmp_path / "whole")]) == 0
    ctrl_c(step, "beat", 17)
    line = interrupted(["train", path, "--run-dir", tmp_path / "run"], capsys,
                       "hpcfilter: interrupted: saved in epoch ")
    assert line.endswith("steps; --resume goes on from there")
    assert (not (tmp_path / "run" / "REQUEUE").exists()
            and not (tmp_path / "run" / "DONE").exists()), "nobody asks for another job"
    assert stops(tmp_path / "run") == ["Ctrl-C"]
    notice.listen(())
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run"), "--resume"]) == 0
    assert read_run(tmp_path / "run")[2]["weights"] == read_run(tmp_path / "whole")[2]["weights"]


def test_a_second_one_ends_the_run_at_once(tmp_path, digits, config, ctrl_c, capsys):
    from hpcfilter.train import step

    ctrl_c(step, "beat", 17, times=2)
    line = interrupted(["train", config(digits), "--run-dir", tmp_path / "run"], capsys)
    assert line == "hpcfilter: interrupted at once: --resume goes on from epoch-00000"
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["epoch-00000"]


def test_before_there_is_anything_to_save(tmp_path, digits, config, ctrl_c, capsys):
    from hpcfilter.train import parts

    ctrl_c(parts, "open_packed")
    assert (interrupted(["train", config(digits), "--run-dir", tmp_path / "run"], capsys)
            == "hpcfilter: interrupted")
    assert not (tmp_path / "run").exists()


def test_one_that_is_listed_is_a_notice_like_the_others(tmp_path, digits, config, ctrl_c, capsys):
    from hpcfilter.train import step

    ctrl_c(step, "beat", 5)
    assert main(["train", str(config(digits, stop={"signals": ["INT"]})),
                 "--run-dir", str(tmp_path / "run")]) == 0
    assert ((tmp_path / "run" / "REQUEUE").exists()
            and "told to leave by signal INT" in capsys.readouterr().out)


def test_in_the_background_it_stays_ignored(tmp_path, digits, config, ctrl_c):
    from hpcfilter.train import step

    ctrl_c(step, "beat", 5)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert main(["train", str(config(digits)), "--run-dir", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "DONE").exists() and signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_the_other_verbs_leave_nothing_half_written(tmp_path, digits, config, ctrl_c, capsys, monkeypatch):
    from hpcfilter.data import table
    from hpcfilter.jobs import commands
    from hpcfilter.jobs.doctor import facts
    from hpcfilter.pack import pack
    from hpcfilter.study.report import choice

    monkeypatch.chdir(tmp_path)
    path = config(digits, train={"epochs": 1})
    assert main(["train", str(path), "--run-dir", "run"]) == 0 and main(["score", "run"]) == 0
    capsys.readouterr()
    before = sorted(tmp_path.rglob("*"))
    for module, name, words in ((pack, "seal", ["pack", "digits", "-o", "new.h5"]),
                                (table, "seal", ["score", "run", "-o", "new.h5"]),
                                (table, "seal", ["select", "run/scores.h5", "--fraction", "0.1",
                                                 "-o", "new.h5"]), (facts, "versions", ["doctor"]),
                                (commands, "render", ["jobs", "render", path, "--machine", "slurm-cpu"]),
                                (choice, "replace_text", ["report", "run", "-o", "new.html"])):
        ctrl_c(module, name)
        assert interrupted(words, capsys) == "hpcfilter: interrupted"
        notice.listen(())  # as in a process of its own
        assert sorted(tmp_path.rglob("*")) == before, words


def test_a_probe_says_what_stands(trained, tmp_path, ctrl_c, capsys):
    from hpcfilter.study.landscape import file

    words = ["probe", trained("everything"), "--what", "slices", "--points", "5", "--grid", "3",
             "-o", tmp_path / "p.h5"]
    ctrl_c(file, "write_probe", 2)
    line = interrupted(words, capsys)
    assert (line == f"hpcfilter: interrupted: {tmp_path / 'p.h5'} has what was measured; "
            "the same command goes on with it")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("p.h5")] == ["p.h5"]


def test_what_was_submitted_before_is_said(run, submitted, ctrl_c, capsys):
    from hpcfilter.jobs import commands

    ctrl_c(commands, "submit", 2)
    line = interrupted(["jobs", "submit", run, "--machine", "slurm-cpu", "--nodes", "1,2"], capsys)
    assert (line == "hpcfilter: interrupted; submitted before: 4711; look at the queue for one that was just "
            "being submitted")


def test_a_process_ends_with_130_also_while_torch_is_imported(tmp_path, digits, config, ctrl_c):
    words = [sys.executable, "-m", "hpcfilter", "train", config(digits), "--run-dir", tmp_path / "run"]
    job = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 60
        while "libtorch_cpu" not in Path(f"/proc/{job.pid}/maps").read_text() and time.monotonic() < end:
            time.sleep(0.01)
        job.send_signal(signal.SIGINT)
        _, err = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode == 130 and err == "hpcfilter: interrupted\n"


@pytest.mark.parametrize("target", [pytest.param("one", marks=pytest.mark.nightly), "all"])
def test_ranks_save_together(tmp_path, digits, config, real_ranks, ctrl_c, target):
    job, err = interrupted_ranks(tmp_path, config(digits, **LONG),
                                 lambda job: ranks_of(job)[target == "one":])
    assert stops(tmp_path / "run") == ["Ctrl-C"] and "Traceback" not in err, err
    assert job.returncode == 130 and err.count("hpcfilter: interrupted: saved in epoch") == 1, err
    assert not (tmp_path / "run" / "REQUEUE").exists()


def test_the_launcher_tells_its_ranks_by_term(tmp_path, digits, config, real_ranks, ctrl_c):
    """Open MPI gives them about a second, which a busy machine may exceed: one time in three must do."""
    path = config(digits, **LONG)
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        _, err = interrupted_ranks(tmp_path / str(number), path, lambda job: [job])
        assert "Traceback" not in err, err
        if told := stops(tmp_path / str(number) / "run"):
            break
    assert told == ["signal TERM"], err


def interrupted_ranks(folder, path, whom):
    """Two ranks of a long run, to some of which Ctrl-C comes in their second epoch. whom: Popen of the
    launcher -> processes. Returns (the launcher, its standard error)."""
    words = [*mpirun(2), sys.executable, "-m", "mpi4py", "-m", "hpcfilter", "train", path,
             "--run-dir", folder / "run"]
    job = subprocess.Popen(list(map(str, words)), env=environment(2), stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        end = time.monotonic() + 60
        while not (folder / "run" / "checkpoints" / "epoch-00001").exists():
            assert time.monotonic() < end and job.poll() is None
            time.sleep(0.02)
        for process in whom(job):
            process.send_signal(signal.SIGINT)
        return job, job.communicate(timeout=60)[1]
    finally:
        job.kill()
