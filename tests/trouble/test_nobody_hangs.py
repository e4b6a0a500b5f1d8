"""One rank's trouble ends all ranks, soon and with a reason: exceptions, stopped processes, full disks,
counts that disagree."""

import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
from conftest import HELPERS, TIMEOUT

from hpcfilter.base.alive import pulse
from hpcfilter.base.alive.watchdog import where
from hpcfilter.base.spans import by_value
from hpcfilter.comm import SerialComm
from hpcfilter.jobs import ranks_of, started
from hpcfilter.train import checkpoint

ALL_DOWN = 5  # seconds from an exception on one rank to the end of the job
KAKURENBO = {"policy": "kakurenbo", "fraction": 0.3, "tau": 0.2}


@pytest.fixture
def faulty(tmp_path, digits, config, hpcfilter):
    """faulty(ranks, fault, **tables) -> (CompletedProcess, seconds from the fault to the end of the job,
    generations that are left, whole)."""

    def run(ranks, fault, **tables):
        path = config(digits, **{"train": {"epochs": 4, "global_batch": 60}, "filter": KAKURENBO, **tables})
        done = hpcfilter(ranks, "train", path, "--run-dir", tmp_path / "run", HPCFILTER_FAULT=fault)
        end, found = time.time(), re.findall(r"hpcfilter: fault .*, at ([\d.]+)$", done.stderr, re.MULTILINE)
        assert len(found) == 1, f"{done.stdout}\n{done.stderr}"
        left = checkpoint.generations(tmp_path / "run" / "checkpoints")
        assert all(checkpoint.read_stamp(path) for path in left)
        return done, end - float(found[0]), [path.name for path in left]

    return run


@pytest.mark.parametrize("point, rank, n",
                         [("before_select", 1, 2), ("after_select", 0, 2), ("before_step", 2, 30),
                          ("before_score", 1, 2),
                          ("before_evaluate", 0, 2), ("after_rename", 0, 2), ("after_samples", 0, 2)])
def test_an_exception_on_one_rank_ends_all(faulty, point, rank, n):
    done, seconds, left = faulty(3, f"rank={rank},point={point},n={n},kind=exception")
    assert done.returncode not in (0, 2) and seconds < ALL_DOWN
    assert done.stderr.count("Traceback") == 1 and f"hpcfilter: rank {rank} of 3 failed:" in done.stderr
    assert f"InjectedFault: injected at rank {rank}, {point}, pass {n}" in done.stderr
    assert "epoch-00000" in left


def test_an_exception_on_all_ranks_is_shown_once(program):
    done = program(3, "uneven_steps")
    assert done.returncode not in (0, 2) and done.stderr.count("Traceback") == 1
    assert ("BrokenInvariant: order: the ranks planned different numbers of steps: ranks 0-1: 3; "
            "rank 2: 4" in done.stderr)


@pytest.mark.parametrize("rank, point, names", [
    (0, "before_evaluate", "no word from rank 0; "),
    pytest.param(1, "after_step", "no word from rank 1; ranks 0, 2: at ", marks=pytest.mark.nightly),
    pytest.param(2, "before_select", "no word from rank 2; ", marks=pytest.mark.nightly)])
def test_a_stopped_rank_ends_the_job_within_twice_the_timeout(faulty, rank, point, names):
    timeout = 8
    done, seconds, left = faulty(3, f"rank={rank},point={point},n=2,kind=sigstop",
                                 stop={"stall_seconds": timeout})
    assert done.returncode != 0 and timeout <= seconds + 1 and seconds < 2 * timeout
    assert f"nothing has moved for {timeout} s, the job ends; {names}" in done.stderr
    assert left or point != "before_evaluate"


@pytest.mark.nightly
def test_ranks_that_wait_for_a_busy_one_are_patient(program):
    done = program(4, "busy_rank", 3)
    assert done.returncode == 0 and done.stdout == "all here\n", done.stderr


def test_a_module_that_one_rank_lacks_ends_all(tmp_path, digits, config, cold_hpcfilter, monkeypatch):
    """As on a node without the environment."""
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif os.environ.get('OMPI_COMM_WORLD_RANK') == "
                                               "'2':\n    sys.modules['torch'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    start = time.monotonic()
    done = cold_hpcfilter(3, "train", config(digits), "--run-dir", tmp_path / "run")
    assert done.returncode == 2 and "hpcfilter: rank 2: torch is not installed for" in done.stderr, (
        done.stderr)
    assert time.monotonic() - start < 30


@pytest.mark.nightly
def test_a_loop_without_end_is_named_by_its_line(tmp_path, digits, config, hpcfilter, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HELPERS))
    path = config(digits, model={"name": None, "width": None, "factory": "custom:hangs_on_the_last_rank"},
                  stop={"stall_seconds": 4})
    done = hpcfilter(3, "train", path, "--run-dir", tmp_path / "run")
    line = next(line for line in done.stderr.splitlines() if "nothing has moved" in line)
    assert done.returncode != 0 and re.search(r"rank 2: at .*custom\.py:\d+ forward", line), done.stderr
    assert re.search(r"ranks 0-1: at ", line)


def test_a_process_of_its_own_that_hangs_ends_too(tmp_path, digits, config, hpcfilter, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HELPERS))
    path = config(digits, model={"name": None, "width": None, "factory": "custom:hangs_on_the_last_rank"},
                  stop={"stall_seconds": 2})
    done = hpcfilter(1, "train", path, "--run-dir", tmp_path / "run")
    assert (done.returncode == 1
            and re.search(r"nothing has moved for 2 s, the job ends; rank 0: at .*custom\.py", done.stderr))


@pytest.mark.nightly
def test_a_job_that_was_suspended_as_a_whole_goes_on(tmp_path, digits, config, real_ranks):
    """As a scheduler does that lets another job go first: nobody hangs, however long it takes."""
    path = config(digits, train={"epochs": 12, "global_batch": 60}, stop={"stall_seconds": 3})
    with started(2, ["-m", "hpcfilter", "train", path, "--run-dir", tmp_path / "run"],
                 capture=True) as launcher:
        end = time.monotonic() + TIMEOUT
        while not (tmp_path / "run" / "metrics.jsonl").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        ranks = ranks_of(launcher)
        for number, pause in ((signal.SIGSTOP, 6), (signal.SIGCONT, 0)):
            for process in ranks:
                process.send_signal(number)
            time.sleep(pause)
        _, err = launcher.communicate(timeout=TIMEOUT)
    assert len(ranks) == 2 and launcher.returncode == 0, err


@pytest.mark.parametrize("kind", [
    "enospc", *(pytest.param(kind, marks=pytest.mark.nightly) for kind in ("eio", "erofs", "eacces"))])
def test_a_disk_that_refuses_a_save(faulty, kind):
    done, seconds, left = faulty(2, f"point=after_weights,n=2,kind={kind}")
    assert done.returncode == 1 and seconds < ALL_DOWN and left == ["epoch-00000"]
    (line,) = [line for line in done.stderr.splitlines() if "hpcfilter: rank 0:" in line] or [done.stderr]
    assert ("checkpoints/epoch-00001: cannot be saved: [Errno" in line
            and line.endswith("; epoch-00000 stands") and "Traceback" not in done.stderr)


# a generation takes 68 KiB: the weights of the second find no room, or its samples
@pytest.mark.parametrize("kibibytes", [84, pytest.param(100, marks=pytest.mark.nightly)])
def test_a_disk_that_is_really_full(tmp_path, digits, config, small_disk, kibibytes, hpcfilter):
    path, run_dir = config(digits, train={"epochs": 3}), small_disk(kibibytes) / "run"
    assert hpcfilter(1, "train", path, "--run-dir", run_dir, "--set", "train.epochs=1").returncode == 0
    done = hpcfilter(1, "train", path, "--run-dir", run_dir, "--resume")
    assert (done.returncode == 1 and "epoch-00001: cannot be saved: " in done.stderr
            and "epoch-00000 stands" in done.stderr), done.stderr
    assert "Traceback" not in done.stderr and os.listdir(run_dir / "checkpoints") == ["epoch-00000"]
    assert checkpoint.read_stamp(run_dir / "checkpoints" / "epoch-00000")
    subprocess.run(["mount", "-o", "remount,size=1m", run_dir.parent], check=True, timeout=20)
    assert hpcfilter(1, "train", path, "--run-dir", run_dir, "--resume").returncode == 0, (
        "with room again it goes on")


def test_a_disk_that_is_read_only(tmp_path, digits, config, small_disk, hpcfilter):
    path, run_dir = config(digits, train={"epochs": 2}), small_disk(1000) / "run"
    assert hpcfilter(1, "train", path, "--run-dir", run_dir, "--set", "train.epochs=1").returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", run_dir.parent], check=True, timeout=20)
    done = hpcfilter(1, "train", path, "--run-dir", run_dir, "--resume")
    assert (done.returncode == 2 and f"{run_dir}: cannot be the run folder: "
            "Read-only file system" in done.stderr and "Traceback" not in done.stderr)
    assert checkpoint.read_stamp(run_dir / "checkpoints" / "epoch-00000")


def test_a_file_that_may_not_grow(tmp_path, digits, config, hpcfilter):
    path, run_dir = config(digits, train={"epochs": 2}), tmp_path / "run"
    assert hpcfilter(1, "train", path, "--run-dir", run_dir, "--set", "train.epochs=1").returncode == 0
    words = [sys.executable, "-m", "hpcfilter", "train", str(path), "--run-dir", str(run_dir), "--resume"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, check=False,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)))
    assert (done.returncode == 1 and "epoch-00001: cannot be saved: " in done.stderr
            and "epoch-00000 stands" in done.stderr), done.stderr
    assert os.listdir(run_dir / "checkpoints") == ["epoch-00000"]


def test_tables_and_packed_files_on_a_full_disk(tmp_path, digits, config, small_disk, hpcfilter):
    """What was there before stands."""
    path, folder = config(digits, train={"epochs": 1}), small_disk(40)
    assert hpcfilter(1, "train", path, "--run-dir", tmp_path / "run").returncode == 0
    scores = folder / "scores.h5"
    assert hpcfilter(1, "score", tmp_path / "run", "-o", scores).returncode == 0
    before = scores.read_bytes()
    for words, code, message in (
            (["score", tmp_path / "run", "-o", scores], 1, "scores.h5: cannot be written: No space left"),
            (["pack", "digits", "-o", folder / "digits.h5"], 2, "No space left on device")):
        done = hpcfilter(1, *words)
        assert (done.returncode == code and message in done.stderr
                and "Traceback" not in done.stderr), done.stderr
        assert os.listdir(folder) == ["scores.h5"] and scores.read_bytes() == before


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_damaged(tmp_path, digits, config,
                                                                   hpcfilter, ranks):
    """One line, and what is there stays as it is."""
    path, run_dir = config(digits, train={"epochs": 2}), tmp_path / "run"
    assert hpcfilter(ranks, "train", path, "--run-dir", run_dir, "--set", "train.epochs=1").returncode == 0
    model = run_dir / "checkpoints" / "epoch-00000" / "model.pt"
    model.rename(model.with_name("away"))
    model.symlink_to(model.name)  # a loop: the disk answers with an error that says nothing of the file
    done = hpcfilter(ranks, "train", path, "--run-dir", run_dir, "--resume")
    lines = [line for line in done.stderr.splitlines() if "hpcfilter:" in line]
    assert (done.returncode == 1 and len(lines) == 1
            and "epoch-00000: cannot be read: [Errno 40]" in lines[0]), done.stderr
    assert os.listdir(run_dir / "checkpoints") == ["epoch-00000"]


def test_a_folder_that_may_not_be_written(tmp_path, digits, config, hpcfilter):
    path, run_dir = config(digits, train={"epochs": 2}), tmp_path / "run"
    assert hpcfilter(1, "train", path, "--run-dir", run_dir, "--set", "train.epochs=1").returncode == 0
    (run_dir / "checkpoints").chmod(0o555)
    words = [sys.executable, "-m", "hpcfilter", "train", str(path), "--run-dir", str(run_dir), "--resume"]
    # root may write anywhere
    like_others = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    try:
        done = subprocess.run([*like_others, *words], capture_output=True, text=True, timeout=TIMEOUT,
                              check=False)
    finally:
        (run_dir / "checkpoints").chmod(0o755)
    assert (done.returncode == 1
            and "epoch-00001: cannot be saved: [Errno 13] Permission denied" in done.stderr), done.stderr
    assert ("epoch-00000 stands" in done.stderr
            and checkpoint.read_stamp(run_dir / "checkpoints" / "epoch-00000"))


@pytest.mark.parametrize("fault, message", [
    ("rank=1,point=weights,n=30,kind=bitflip", "the ranks hold different weights after epoch 1; rank 0: "),
    ("rank=1,point=histogram,n=1,kind=bitflip", "samples together, expected 1438"),
])
def test_numbers_that_one_rank_has_wrong_are_caught_before_they_are_saved(faulty, fault, message):
    done, _, left = faulty(2, fault)
    assert (done.returncode not in (0, 2)
            and f"BrokenInvariant: {'train' if 'weights' in fault else 'threshold'}: " in done.stderr)
    assert message in done.stderr and left == ["epoch-00000"]


@pytest.mark.parametrize("point", ["samples", "weights"])
def test_numbers_that_are_none_are_caught_before_they_are_saved(faulty, point):
    done, _, left = faulty(2, f"rank=1,point={point},n=30,kind=nan")
    assert (done.returncode == 2 and "the weights are not finite after epoch 1: "
            "the network has diverged" in done.stderr and left == ["epoch-00000"])


def test_a_bit_that_flips_on_the_disk_is_found(tmp_path, digits, config, hpcfilter):
    path = config(digits, train={"epochs": 3}, filter=KAKURENBO, checkpoint={"keep": 3})
    done = hpcfilter(1, "train", path, "--run-dir", tmp_path / "run",
                     HPCFILTER_FAULT="point=after_rename,n=2,kind=bitflip")
    assert done.returncode == 0, "it is found when it is read"
    import shutil

    shutil.rmtree(tmp_path / "run" / "checkpoints" / "epoch-00002")
    done = hpcfilter(1, "train", path, "--run-dir", tmp_path / "run", "--resume")
    assert done.returncode == 0 and "epoch-00001/model.pt: differs from its checksum" in done.stderr


def test_ranks_in_few_words():
    assert by_value({0: 3, 1: 3, 2: 4}) == "ranks 0-1: 3; rank 2: 4"
    assert by_value({5: "", 0: "", 2: "", 1: "", 7: ""}) == "ranks 0-2, 5, 7"
    assert by_value({3: "x"}) == "rank 3: x"


def test_where_a_thread_stands():
    import threading

    here = where(threading.get_ident())
    assert re.fullmatch(r"at test_nobody_hangs\.py:\d+ test_where_a_thread_stands > watchdog\.py:\d+ where > "
                        r"watchdog\.py:\d+ _lines", here), here


def test_watching_ends_with_its_block_and_leaves_a_live_one_alone():
    import threading

    from hpcfilter.base.alive.watchdog import watching

    with watching(SerialComm(), 0.3):
        for _ in range(10):
            time.sleep(0.1)
            pulse.beat()
    assert "hpcfilter-watchdog" not in {thread.name for thread in threading.enumerate()}
    with watching(SerialComm(), 0):
        assert "hpcfilter-watchdog" not in {thread.name for thread in threading.enumerate()}
