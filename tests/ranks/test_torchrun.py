"""Ranks without MPI: under torchrun, and under mpirun as if there were no mpi4py."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from commands import ok
from conftest import TIMEOUT

from hpcfilter.jobs import mpirun
from hpcfilter.jobs.local import environment
from hpcfilter.study.report import read_run

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node"]
KAKURENBO = {"policy": "kakurenbo", "fraction": 0.3, "tau": 0.2}


@pytest.fixture
def launch(real_ranks):
    """launch(how, ranks, *words) -> Popen of the launcher. how: torchrun, or mpirun."""
    started = []

    def start(how, ranks, *words, **more):
        if how == "torchrun":
            before = [*TORCHRUN, str(ranks), "--master-port", str(free_port())]
        else:
            before = [*mpirun(ranks), sys.executable]
            more = {"HPCFILTER_COMM": "torch", "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(free_port()), **more}
        started.append(subprocess.Popen([*before, "-m", "hpcfilter", *map(str, words)], text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env={**environment(ranks), **more}))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def done(process):
    """Its CompletedProcess."""
    out, err = process.communicate(timeout=TIMEOUT)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.parametrize("how", ["torchrun", pytest.param("mpirun", marks=pytest.mark.nightly)])
def test_it_trains_to_the_same_bits_as_over_mpi(launch, hpcfilter, tmp_path, digits, config, how):
    path = config(digits, filter=KAKURENBO)
    ok(hpcfilter(2, "train", path, "--run-dir", tmp_path / "mpi"))
    assert "gradients: by torch: not Horovod" in ok(done(launch(how, 2, "train", path, "--run-dir",
                                                                tmp_path / "run"))).stdout
    run, epochs, end = read_run(tmp_path / "run")
    other = read_run(tmp_path / "mpi")
    assert (run["ranks"], run["ranks_per_node"], run["backend"], run["engine"]) == (2, 2, "torch", "torch")
    assert [epoch["selection"] for epoch in epochs] == [epoch["selection"] for epoch in other[1]]
    assert end["weights"] == other[2]["weights"]


@pytest.mark.nightly
def test_the_other_verbs(launch, tmp_path, digits, config):
    ok(done(launch("torchrun", 2, "train", config(digits), "--run-dir", tmp_path / "run")))
    ok(done(launch("torchrun", 2, "score", tmp_path / "run")))
    ok(done(launch("torchrun", 2, "probe", tmp_path / "run", "--what", "curvature", "-o", tmp_path / "p.h5")))
    text = ok(done(launch("torchrun", 2, "doctor", "--folder", tmp_path))).stdout
    assert "torchrun RANK=0" in text and "by torch: " in text and "problem: none" in text


@pytest.mark.parametrize("how", ["torchrun", pytest.param("mpirun", marks=pytest.mark.nightly)])
def test_one_failed_rank_ends_all(launch, tmp_path, digits, config, how):
    start = time.monotonic()
    end = done(launch(how, 2, "train", config(digits, train={"epochs": 500}), "--run-dir", tmp_path / "run",
                      HPCFILTER_FAULT="rank=1,point=after_step,n=20,kind=exception"))
    assert end.returncode and "hpcfilter: rank 1 of 2 failed:" in end.stderr and "InjectedFault" in end.stderr
    assert time.monotonic() - start < 60 and not (tmp_path / "run" / "DONE").exists()


@pytest.mark.nightly
@pytest.mark.parametrize("how, rank", [("torchrun", 0), ("mpirun", 0), ("mpirun", 1)])
def test_a_stopped_rank_ends_all(launch, tmp_path, digits, config, how, rank):
    """Also the one that holds the store where they have met."""
    start = time.monotonic()
    path = config(digits, train={"epochs": 500}, stop={"stall_seconds": 6})
    end = done(launch(how, 2, "train", path, "--run-dir", tmp_path / "run",
                      HPCFILTER_FAULT=f"rank={rank},point=after_step,n=20,kind=sigstop"))
    assert end.returncode and f"rank {1 - rank}: nothing has moved for 6 s, the job ends" in end.stderr
    assert time.monotonic() - start < 90, "torchrun waits half a minute before it kills"


@pytest.mark.nightly
def test_a_notice_to_torchrun_saves_and_asks_for_more(launch, tmp_path, digits, config):
    path = config(digits, train={"epochs": 2000})
    process = launch("torchrun", 2, "train", path, "--run-dir", tmp_path / "run")
    end = time.monotonic() + TIMEOUT
    while not (tmp_path / "run" / "checkpoints" / "epoch-00000").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=TIMEOUT)
    assert (tmp_path / "run" / "REQUEUE").exists() and not (tmp_path / "run" / "DONE").exists()


@pytest.mark.nightly
def test_bad_input_is_one_line_of_all_ranks(launch, tmp_path):
    end = done(launch("torchrun", 2, "train", tmp_path / "none.toml", "--run-dir", tmp_path / "run"))
    line = f"hpcfilter: {tmp_path / 'none.toml'}: cannot read the run config"
    assert end.returncode and end.stderr.count(line) == 1


def test_horovod_is_not_to_be_had_without_mpi(launch, tmp_path, digits, config):
    end = done(launch("torchrun", 2, "train", config(digits), "--run-dir", tmp_path / "run", "--set",
                      "exchange.engine=horovod"))
    assert end.stderr.count("hpcfilter: exchange.engine: got horovod, but the ranks of this launch have met "
                            "without MPI") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.nightly
def test_a_rank_that_never_comes(real_ranks, tmp_path, digits, config):
    """WORLD_SIZE says three, but two were started."""
    port, ranks = str(free_port()), []
    for rank in range(2):
        more = {"RANK": str(rank), "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                "HPCFILTER_MEET_SECONDS": "4"}
        words = [sys.executable, "-m", "hpcfilter", "train", config(digits), "--run-dir", tmp_path / "run"]
        ranks.append(subprocess.Popen(words, env={**os.environ, **more}, text=True, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE))
    ends = [done(rank) for rank in ranks]
    assert [end.returncode for end in ends] == [2, 2] and not (tmp_path / "run").exists()
    assert f"hpcfilter: comm: 3 ranks do not meet at 127.0.0.1:{port} within 4 s" in ends[0].stderr


@pytest.mark.nightly
@pytest.mark.parametrize("step", [{}, {"SLURM_STEP_ID": "0", "SLURM_LOCALID": "0",
                                      "SLURM_STEP_NUM_TASKS": "2"}])
def test_a_torchrun_on_each_node(real_ranks, tmp_path, digits, config, step):
    """By hand, or as the two tasks of a step, which count the torchruns and not their ranks."""
    port, path, nodes = str(free_port()), config(digits), []
    for number in range(2):
        words = [*TORCHRUN[:3], "--nnodes", "2", "--node-rank", str(number), "--nproc-per-node", "1",
                 "--master-addr", "127.0.0.1", "--master-port", port, "-m", "hpcfilter", "train", path,
                 "--run-dir", tmp_path / "run"]
        more = {**step, "SLURM_PROCID": str(number)} if step else {}
        nodes.append(subprocess.Popen(words, env={**environment(2), **more}, text=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    for node in nodes:
        ok(done(node))
    run = read_run(tmp_path / "run")[0]
    assert (run["ranks"], run["ranks_per_node"], run["engine"]) == (2, 1, "torch")
