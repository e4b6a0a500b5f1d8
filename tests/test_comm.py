import time

import numpy as np
import pytest
from comm_laws import LAWS
from conftest import RANKS

from hpcfilter.comm import Placement, SerialComm, placement
from hpcfilter.comm.threads import run
from hpcfilter.errors import BrokenInvariant


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_one_process(law):
    law(SerialComm())


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_threads(law, ranks):
    run(ranks, law)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_mpi(program, ranks):
    done = program(ranks, "comm_laws_mpi")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == " held ".join(["", *LAWS]).split()


def test_one_failed_rank_ends_all(program):
    start = time.monotonic()
    done = program(3, "fail_on_one_rank")
    assert done.returncode != 0 and "RuntimeError: rank gone" in done.stderr
    assert time.monotonic() - start < 30


def test_a_mismatched_collective_is_named():
    with pytest.raises(BrokenInvariant, match=r"\{0: 'sum', 1: 'allgather'\}"):
        run(2, lambda comm: comm.sum(1) if comm.rank == 0 else comm.allgather(np.zeros(1)))


def test_a_rank_that_stays_away_does_not_hang():
    with pytest.raises(Exception):  # noqa: B017  BrokenBarrierError of the one that waited
        run(2, lambda comm: comm.sum(1) if comm.rank else None, timeout=1)


@pytest.mark.parametrize("variables, expected", [
    ({}, (0, 1)),
    ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"}, (1, 4)),
    ({"JSM_NAMESPACE_RANK": "2", "JSM_NAMESPACE_SIZE": "6"}, (2, 6)),
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1)),  # the batch shell is no task
    ({"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8"}, (3, 8)),
    ({"PMI_RANK": "1", "PMI_SIZE": "2"}, (1, 2)),
    ({"FLUX_TASK_RANK": "1", "FLUX_JOB_SIZE": "2"}, (1, 2)),
    ({"OMPI_COMM_WORLD_RANK": "", "OMPI_COMM_WORLD_SIZE": ""}, (0, 1)),
])
def test_placement(variables, expected):
    assert placement(variables) == Placement(*expected)


def test_payload_is_counted():
    sent = run(2, lambda comm: (comm.sum(np.zeros(10, np.int64)), comm.sent)[1])
    assert sent == [80, 80]
