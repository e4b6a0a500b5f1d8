"""One job at a time in a run folder, where the file system has locks and where it has none."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from hpcfilter.base.alive import pulse
from hpcfilter.base.errors import Failure, InputError
from hpcfilter.record import lock
from hpcfilter.record.metrics import Record


@pytest.fixture
def quick(monkeypatch):
    """Seconds become tenths."""
    tenths = {"LET_GO": 0.4, "NODES_LET_GO": 1.2, "BEAT": 0.1, "QUIET": 1.0, "TURN": 0.02}
    for name, seconds in tenths.items():
        monkeypatch.setattr(lock, name, seconds)
    for name in lock.NODES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_flock(monkeypatch, quick):
    """A file system without flock."""
    def refuse(file, how):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)


@pytest.fixture
def hold(tmp_path):
    """hold(**what is different in the identity) -> path of the file that somebody has left in the folder."""
    def leave(**changes):
        identity = {**lock._identity(os.getpid()), "host": "nid7", "numbers": "another machine", **changes}
        (tmp_path / "lock.owner").write_text(json.dumps(identity))
        return tmp_path / "lock.owner"

    return leave


def taken_over(folder):
    """The warnings of one who takes the lock of a folder, and leaves it again."""
    said = []
    with lock.alone(folder, said.append):
        pass
    return said


@pytest.mark.parametrize("flock", [True, False])
def test_a_second_one_is_kept_out_until_the_first_has_left(flock, request, tmp_path):
    request.getfixturevalue("quick" if flock else "no_flock")
    with lock.alone(tmp_path, pytest.fail):
        with pytest.raises(InputError, match="another job works in this run folder") as refused:
            taken_over(tmp_path)
        if not flock:
            assert f"process {os.getpid()} of " in str(refused.value)
    assert taken_over(tmp_path) == [] and not (tmp_path / "lock.owner").exists()


def test_with_flock_nothing_else_is_written(quick, tmp_path):
    with lock.alone(tmp_path, pytest.fail):
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_process_that_was_killed_is_known_at_once(no_flock, tmp_path):
    code = ("import json, os; from hpcfilter.record import lock; "
            "print(json.dumps(lock._identity(os.getpid())))")
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          check=True).stdout
    (tmp_path / "lock.owner").write_text(text)
    began = time.monotonic()
    (line,) = taken_over(tmp_path)
    assert "its process has ended; it is taken over" in line and time.monotonic() - began < 0.9


def test_another_process_of_the_same_number_is_not_it(no_flock, hold, tmp_path):
    hold(numbers=lock._numbers(), process=os.getpid(), begun="1")
    assert "its process has ended" in taken_over(tmp_path)[0]


def test_a_job_that_was_requeued_goes_on_at_once(no_flock, hold, tmp_path, monkeypatch):
    hold(job="4711", start="0")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    (line,) = taken_over(tmp_path)
    assert "process " in line and "of nid7, job 4711: its job has started anew" in line


@pytest.mark.parametrize("text", [None, "", '{"host": "ni'])
def test_one_of_another_machine_is_left_behind_when_nobody_touches_it(no_flock, hold, tmp_path, text):
    path = hold()
    if text is not None:
        path.write_text(text)
    began = time.monotonic()
    (line,) = taken_over(tmp_path)
    assert time.monotonic() - began > lock.QUIET and "nobody has touched it for" in line
    assert ("nid7" in line) == (text is None)


def test_one_of_another_machine_that_is_touched_keeps_others_out(no_flock, hold, tmp_path):
    path, done = hold(), threading.Event()
    own = path.read_text()
    beats = threading.Thread(target=lock._beat, args=(path, own, done, lock.Hold(path, own)))
    beats.start()
    try:
        with pytest.raises(InputError, match=r"another job works .*: process \d+ of nid7 \(lock\.owner\)"):
            taken_over(tmp_path)
    finally:
        done.set()
        beats.join()
    assert path.read_text() == own


def test_a_holder_touches_its_file_and_makes_it_anew(no_flock, tmp_path):
    path = tmp_path / "lock.owner"
    with lock.alone(tmp_path, pytest.fail):
        first = path.stat().st_mtime_ns
        time.sleep(0.5)
        assert path.stat().st_mtime_ns > first
        path.unlink()
        time.sleep(0.5)
        assert path.exists()
    assert not path.exists()


def test_a_file_server_that_stood_still_makes_nobody_dead(no_flock, hold, tmp_path, monkeypatch):
    """One look may take longer than a file may be quiet; its holder could not touch it meanwhile."""
    path, done, looks, look = hold(), threading.Event(), [], lock._look
    holder = lock.Hold(path, path.read_text())

    def slow(path):
        looks.append(path)
        if len(looks) == 2:
            time.sleep(1.5 * lock.QUIET)
            beats.start()
        return look(path)

    beats = threading.Thread(target=lock._beat, args=(path, path.read_text(), done, holder))
    monkeypatch.setattr(lock, "LOOK", 0.1)
    monkeypatch.setattr(lock, "_look", slow)
    try:
        with pytest.raises(InputError, match="another job works"):
            taken_over(tmp_path)
    finally:
        done.set()
        beats.join()
    assert not holder.lost


def test_a_holder_that_was_taken_for_dead_knows_it_and_leaves_the_other_alone(no_flock, hold, tmp_path):
    with lock.alone(tmp_path, pytest.fail) as held:
        held.check()
        path = hold()
        time.sleep(0.5)
        assert "of nid7 has taken this run folder over" in held.lost
        with pytest.raises(Failure, match="saves nothing more"):
            held.check()
    assert path.exists()


def test_a_record_whose_folder_was_taken_over_writes_nothing_more(no_flock, hold, tmp_path):
    record = Record(tmp_path, speaks=True)
    with record.alone():
        record.row("epoch", epoch=0)
        hold()
        with pytest.raises(Failure, match="has taken this run folder over"):
            record.row("epoch", epoch=1)
        assert record.lost
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_training_whose_folder_was_taken_over_leaves_and_saves_nothing(hold, digits, config, tmp_path):
    path, run = config(digits, train={"epochs": 100_000}, checkpoint={"every": 100_000}), tmp_path / "run"
    code = ("import sys; from hpcfilter.cli import main; from hpcfilter.record import lock; "
            "lock.BEAT, lock._flock = 0.2, lambda file: None; "
            f"sys.exit(main(['train', {str(path)!r}, '--run-dir', {str(run)!r}]))")
    training = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)
    with training:
        while '"epoch"' not in (rows.read_text() if (rows := run / "metrics.jsonl").exists() else ""):
            assert training.poll() is None, training.stderr.read()
            time.sleep(0.02)
        hold().replace(run / "lock.owner")
        error = training.communicate(timeout=60)[1]
    assert training.returncode == 1
    assert "of nid7 has taken this run folder over" in error.splitlines()[-1], error
    assert (run / "lock.owner").exists() and not (run / "REQUEUE").exists()
    assert not list(run.rglob("model.pt"))


@pytest.mark.parametrize("job", [False, True])
def test_the_lock_of_a_node_that_failed_is_waited_for(quick, tmp_path, monkeypatch, job):
    """The file server keeps it for minutes. The wait is said, and the watchdog knows that it is one."""
    if job:
        monkeypatch.setenv("PBS_JOBID", "1.pbs")
    said, began, before = [], time.monotonic(), pulse.last
    with lock.alone(tmp_path, pytest.fail):
        with pytest.raises(InputError, match="another job works"), lock.alone(tmp_path, said.append):
            pass
        waited = time.monotonic() - began
    assert (waited > lock.NODES_LET_GO) == job and pulse.last > before
    assert len(said) == job and all("waiting up to 0.8 s more" in line for line in said)


def test_of_many_that_find_one_left_behind_only_one_is_in_at_a_time(no_flock, hold, tmp_path, monkeypatch):
    hold(numbers=lock._numbers(), begun="1")
    monkeypatch.setattr(lock, "LET_GO", 20)
    inside, most, failed = [], [], []

    def work():
        try:
            with lock.alone(tmp_path, lambda line: None):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.02)
                inside.pop()
        except InputError as error:
            failed.append(error)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == [1] * 8 and not failed


def test_the_record_says_what_it_takes_over(no_flock, hold, tmp_path, capsys):
    hold(numbers=lock._numbers(), begun="1")
    with Record(tmp_path, speaks=True).alone():
        pass
    out, err = capsys.readouterr()
    assert err.startswith("hpcfilter: warning: ") and "was left behind by process" in err
    assert err.count("\n") == 1
    assert out == f"{tmp_path / 'lock.owner'}: holds the run folder, where the file system has no flock\n"
