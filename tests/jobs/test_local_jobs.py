"""`hpcfilter jobs submit --machine local`: the body of every job script, run here and now on real ranks."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import TIMEOUT

from hpcfilter.cli import main
from hpcfilter.study.report import read_run


@pytest.fixture
def run(digits, config, tmp_path, monkeypatch):
    """Path of a run config in the current folder."""
    monkeypatch.chdir(tmp_path)
    return config(digits)


@pytest.fixture
def script(run, tmp_path, monkeypatch):
    """script(**job) -> Popen of the job's shell, in a session of its own, for a run that takes longer than
    the test; ended afterwards."""
    started = []

    def start(**job):
        with monkeypatch.context() as context:
            context.setattr("hpcfilter.jobs.submit._run_here", lambda plan: None)
            words = [word for key, value in {"train.epochs": 2000, "train.global_batch": 20, **job}.items()
                     for word in ("--set", f"{key}={value}")]
            assert main(["jobs", "submit", str(run), "--machine", "local", "--run-dir", "run", *words]) == 0
        # tests that run in the background ignore it, and a shell cannot change that
        words = ["env", "--default-signal=INT", "bash", "run/job.sh"]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True))
        return started[-1]

    yield start
    for shell in started:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
        shell.communicate(timeout=TIMEOUT)


def until(condition, what):
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, f"waited {TIMEOUT} s for {what}"
        time.sleep(0.01)


def children(shell):
    """Every process below the shell."""
    return psutil.Process(shell.pid).children(recursive=True)


def launched(shell):
    try:
        return any(process.name() in ("mpirun", "prterun") for process in children(shell))
    except psutil.NoSuchProcess:  # a command of the script, over meanwhile
        return False


@pytest.mark.parametrize("name, code", [("TERM", 143), pytest.param("INT", 143, marks=pytest.mark.nightly)])
def test_ending_the_shell_ends_the_ranks(script, tmp_path, name, code):
    shell = script()
    until((tmp_path / "run" / "metrics.jsonl").exists, "the first row")
    below = children(shell)
    shell.send_signal(getattr(signal, f"SIG{name}"))
    shell.communicate(timeout=TIMEOUT)
    assert shell.returncode == code
    _, alive = psutil.wait_procs(below, timeout=TIMEOUT)
    assert not alive


def test_a_second_job_is_kept_out_of_the_run_folder(script, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hpcfilter.record.lock.LET_GO", 0.5)
    script()
    until((tmp_path / "run" / "metrics.jsonl").exists, "the first row")
    assert main(["train", str(run), "--run-dir", "run", "--resume", "--set", "train.epochs=2000",
                 "--set", "train.global_batch=20"]) == 2
    assert "run: another job works in this run folder" in capsys.readouterr().err


@pytest.mark.parametrize("delay", [0, pytest.param(0.05, marks=pytest.mark.nightly),
                                   pytest.param(0.2, marks=pytest.mark.nightly)])
def test_a_notice_before_the_ranks_listen_is_not_lost(script, tmp_path, delay):
    """It ends the ranks, whose default action it is, or the launcher; the job asks for the
    rest all the same."""
    shell = script()
    until(lambda: launched(shell), "the launcher")
    time.sleep(delay)
    shell.send_signal(signal.SIGUSR1)
    out, _ = shell.communicate(timeout=TIMEOUT)
    assert shell.returncode == 0, out
    assert (tmp_path / "run" / "REQUEUE").exists() and "not finished; submit again to go on" in out


def test_what_comes_before_may_not_take_the_whole_walltime(script, tmp_path):
    """Told before a rank was started, with no time left: the next job would fare no better,
    so none is asked for."""
    (tmp_path / "slow.sh").write_text("kill -USR1 $$\nsleep 2\n")
    shell = script(**{"job.walltime": "00:00:02", "job.grace_seconds": 1, "job.requeue": "true",
                      "job.source": "slow.sh"})
    out, _ = shell.communicate(timeout=TIMEOUT)
    assert shell.returncode == 1 and "nothing trained: what comes before has taken the walltime" in out, out
    assert not (tmp_path / "run" / "requeues").exists()


def test_the_local_machine_trains_here_and_now(run, real_ranks, tmp_path):
    words = ["-m", "hpcfilter", "jobs", "submit", run, "--machine", "local", "--run-dir", "runs/a folder"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=TIMEOUT,
                          check=False)
    assert done.returncode == 0, done.stderr
    first, rows, end = read_run(tmp_path / "runs" / "a folder")
    assert first["ranks"] == 2 and len(rows) == 2 and end["exit"] == 0


def test_the_local_machine_starts_itself_again(run, warm, tmp_path):
    """The deadline has passed at once; the bound holds, and the counter is forgotten at the
    next submission."""
    words = ["-m", "hpcfilter", "jobs", "submit", run, "--machine", "local", "--walltime", "00:00:02",
             "--set", "job.grace_seconds=1", "--set", "job.requeue=true", "--set", "job.max_requeues=2",
             "--set", "train.epochs=500", "--set", "train.global_batch=8",
             "--set", f"job.python={warm.program()}"]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, timeout=TIMEOUT,
                          check=False)
    assert (done.returncode == 1 and "requeue 2 of 2" in done.stdout
            and done.stdout.count("told to leave by the deadline") == 3)
    assert ("not finished after 2 requeues (job.max_requeues)" in done.stdout
            and "ended with exit code 1" in done.stderr)
    assert ((tmp_path / "runs" / "hpcfilter" / "REQUEUE").exists()
            and (tmp_path / "runs" / "hpcfilter" / "requeues").read_text() == "2\n")


@pytest.mark.nightly
def test_a_failing_program_fails_the_job(run, real_ranks):
    fault = 'job.env={HPCFILTER_FAULT="rank=1,point=before_step,n=2,kind=exception"}'
    words = ["-m", "hpcfilter", "jobs", "submit", run, "--machine", "local", "--set", fault]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, timeout=TIMEOUT,
                          check=False)
    assert (done.returncode == 1 and "rank 1 of 2 failed" in done.stderr
            and "ended with exit code 1" in done.stderr)
