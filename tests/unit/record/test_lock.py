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

from hpcfilter.base.errors import InputError
from hpcfilter.record import lock
from hpcfilter.record.metrics import Record


@pytest.fixture
def quick(monkeypatch):
    """Seconds become tenths."""
    for name, seconds in {"LET_GO": 0.4, "BEAT": 0.1, "QUIET": 1.0, "TURN": 0.02}.items():
        monkeypatch.setattr(lock, name, seconds)


@pytest.fixture
def no_flock(monkeypatch, quick):
    """A file system without flock."""
    def refuse(file, how):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for name in (*lock.JOBS, "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


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
    beats = threading.Thread(target=lock._beat, args=(path, own, done, pytest.fail))
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


def test_a_holder_that_was_taken_for_dead_says_so_and_leaves_the_other_alone(no_flock, hold, tmp_path):
    said = []
    with lock.alone(tmp_path, said.append):
        path = hold()
        time.sleep(0.5)
    assert len(said) == 1 and "of nid7 has taken this run folder over" in said[0] and path.exists()


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
    err = capsys.readouterr().err
    assert err.startswith("hpcfilter: warning: ") and "was left behind by process" in err
    assert err.count("\n") == 1
