"""What the launchers say before MPI starts, and the GPU that a rank shows itself then."""

import os

import pytest

from hpcfilter.comm import Placement, placement, world
from hpcfilter.comm.visibility import show_own_gpu
from hpcfilter.errors import InputError

OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
LIST = "CUDA_VISIBLE_DEVICES=3,2,1,0"


@pytest.mark.parametrize("variables, expected", [
    ({}, (0, 1, 0)),
    (OPEN_MPI, (5, 8, 1)),
    ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"}, (1, 4, None)),
    ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}, (0, 1, 0)),
    ({"JSM_NAMESPACE_RANK": "8", "JSM_NAMESPACE_SIZE": "12", "JSM_NAMESPACE_LOCAL_RANK": "2"}, (8, 12, 2)),
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}, (0, 1, 0)),  # the batch shell is no task
    ({"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1"}, (3, 8, 1)),
    ({"PMI_RANK": "1", "PMI_SIZE": "2", "PMI_LOCAL_RANK": "1"}, (1, 2, 1)),
    ({"PMI_RANK": "6", "PMI_SIZE": "8", "PALS_LOCAL_RANKID": "2"}, (6, 8, 2)),
    ({"PMI_RANK": "6", "PMI_SIZE": "8", "MPI_LOCALRANKID": "3"}, (6, 8, 3)),
    ({"PMI_RANK": "3", "PMI_SIZE": "4", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1"}, (3, 4, 1)),  # srun --mpi=pmi2
    ({"PMI_RANK": "1", "PMI_SIZE": "4", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_LOCALID": "0"}, (1, 4, None)),  # mpiexec in a step
    ({"MV2_COMM_WORLD_RANK": "1", "MV2_COMM_WORLD_SIZE": "4", "MV2_COMM_WORLD_LOCAL_RANK": "1"}, (1, 4, 1)),
    ({"PMIX_RANK": "2"}, (2, None, None)),
    ({"FLUX_TASK_RANK": "9", "FLUX_JOB_SIZE": "16", "FLUX_TASK_LOCAL_ID": "1"}, (9, 16, 1)),
    ({"OMPI_COMM_WORLD_RANK": "", "OMPI_COMM_WORLD_SIZE": ""}, (0, 1, 0)),
])
def test_placement(variables, expected):
    assert placement(variables) == Placement(*expected)


@pytest.mark.parametrize("text, variables, expected", [
    (LIST, OPEN_MPI, {"CUDA_VISIBLE_DEVICES": "2"}),
    (LIST, {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_RANK": "4", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}, {"CUDA_VISIBLE_DEVICES": "3"}),
    ("ROCR_VISIBLE_DEVICES=4,5", OPEN_MPI, {"ROCR_VISIBLE_DEVICES": "5"}),
    ("HIP_VISIBLE_DEVICES=7", OPEN_MPI, {"HIP_VISIBLE_DEVICES": "7"}),
    ("CUDA_VISIBLE_DEVICES=GPU-8d1a-77,MIG-GPU-8d1a/1/0", OPEN_MPI, {"CUDA_VISIBLE_DEVICES": "MIG-GPU-8d1a/1/0"}),
    (LIST, {}, {"CUDA_VISIBLE_DEVICES": "3"}),
    ("", OPEN_MPI, {}),
])
def test_a_rank_shows_itself_its_own_gpu(text, variables, expected):
    environ = {**variables, "HPCFILTER_GPU": text}
    show_own_gpu(environ)
    assert environ == {**variables, "HPCFILTER_GPU": text, **expected}


@pytest.mark.parametrize("text", ["3,2,1,0", "CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES=", "CUDA_VISIBLE_DEVICES=0,,1", "PATH=0,1",
                                  "CUDA_VISIBLE_DEVICES=0 1"])
def test_a_malformed_list_of_gpus_is_refused(text):
    environ = {**OPEN_MPI, "HPCFILTER_GPU": text}
    with pytest.raises(InputError, match="^HPCFILTER_GPU: got '.*', expected CUDA_VISIBLE_DEVICES"):
        show_own_gpu(environ)
    assert environ == {**OPEN_MPI, "HPCFILTER_GPU": text}


@pytest.mark.parametrize("variables", [{"PMI_RANK": "1", "PMI_SIZE": "4"}, {"PMIX_RANK": "2"}])
def test_without_a_local_rank_no_gpu_is_guessed(variables):
    with pytest.raises(InputError, match="gives no local rank"):
        show_own_gpu({**variables, "HPCFILTER_GPU": LIST})


def test_one_process_shows_itself_the_first(monkeypatch):
    monkeypatch.setenv("HPCFILTER_GPU", LIST)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")  # what world() sets is undone with it
    world()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def test_the_gpu_is_chosen_before_mpi_is_loaded(program, monkeypatch):
    monkeypatch.setenv("HPCFILTER_GPU", LIST)
    done = program(3, "visible_before_mpi")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["rank 0 saw 3", "rank 1 saw 2", "rank 2 saw 1"]


def test_a_malformed_list_is_one_line_of_all_ranks(hpcfilter):
    done = hpcfilter(2, "doctor", HPCFILTER_GPU="CUDA_VISIBLE_DEVICES:0,1")
    assert done.returncode == 2 and done.stderr.count("HPCFILTER_GPU: got 'CUDA_VISIBLE_DEVICES:0,1'") == 1
