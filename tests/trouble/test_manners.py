"""What a run does to its surroundings: no socket that listens, no secret in a record, files
that others cannot write."""

import os
import stat
import time

import psutil
import pytest
from conftest import TIMEOUT

from hpcfilter.jobs import ranks_of, started


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_listens_nowhere_and_keeps_no_secret(tmp_path, digits, config, real_ranks, ranks):
    path = config(digits, train={"epochs": 200})
    words = ["-m", "hpcfilter", "train", path, "--run-dir", tmp_path / "run"]
    secret = {"MY_API_TOKEN": "7c9e6679-tell-nobody", "AWS_SECRET_ACCESS_KEY": "7c9e6679-tell-nobody"}
    with started(ranks, words, capture=True, **secret) as launcher:
        end = time.monotonic() + TIMEOUT
        while not (tmp_path / "run" / "checkpoints" / "epoch-00001").exists():
            assert time.monotonic() < end and launcher.poll() is None
            time.sleep(0.02)
        processes = ranks_of(launcher) if ranks > 1 else [psutil.Process(launcher.pid)]
        assert len(processes) == ranks
        for process in processes:
            assert process.environ()["MY_API_TOKEN"] == secret["MY_API_TOKEN"]
            assert [connection for connection in process.net_connections("inet")
                    if connection.status == psutil.CONN_LISTEN] == []
        for process in processes:
            process.terminate()
        out, err = launcher.communicate(timeout=TIMEOUT)
    assert launcher.returncode == 0, err
    files = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert {"config.toml", "metrics.jsonl", "REQUEUE", "model.pt", "scores.h5", "stamp.json",
            "SHA256SUMS"} <= {file.name for file in files}
    for file in files:
        assert b"tell-nobody" not in file.read_bytes(), file
    assert "tell-nobody" not in out + err


@pytest.mark.parametrize("mask, most", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_are_as_open_as_the_user_wants(tmp_path, digits, config, mask, most):
    from hpcfilter.cli import main

    before = os.umask(mask)
    try:
        assert main(["train", str(config(digits, train={"epochs": 1})),
                     "--run-dir", str(tmp_path / "run")]) == 0
        assert main(["score", str(tmp_path / "run")]) == 0
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode)
             for file in (tmp_path / "run").rglob("*") if file.is_file()}
    assert len(modes) > 6 and set(modes.values()) == {most}, modes
