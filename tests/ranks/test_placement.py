"""What the launchers say before MPI starts, who trains alone by mistake, and the GPU that a
rank shows itself."""

import os
import subprocess
import sys

import pytest
from conftest import TIMEOUT

from hpcfilter.base.errors import InputError
from hpcfilter.cli import main
from hpcfilter.comm import Placement, SerialComm, check_not_left_out, placement, surroundings, world
from hpcfilter.comm.launcher import contradiction, left_out, speaks
from hpcfilter.comm.visibility import show_own_gpu

OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
LIST = "CUDA_VISIBLE_DEVICES=3,2,1,0"


@pytest.mark.parametrize("variables, expected", [
    ({}, (0, 1, 0)),
    (OPEN_MPI, (5, 8, 1)),
    ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"}, (1, 4, None)),
    ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}, (0, 1, 0)),
    ({"JSM_NAMESPACE_RANK": "8", "JSM_NAMESPACE_SIZE": "12", "JSM_NAMESPACE_LOCAL_RANK": "2"}, (8, 12, 2)),
    # the batch shell is no task
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}, (0, 1, 0)),
    ({"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_STEP_ID": "0",
      "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1"}, (3, 8, 1)),
    ({"PMI_RANK": "1", "PMI_SIZE": "2", "PMI_LOCAL_RANK": "1"}, (1, 2, 1)),
    ({"PMI_RANK": "6", "PMI_SIZE": "8", "PALS_LOCAL_RANKID": "2"}, (6, 8, 2)),
    ({"PMI_RANK": "6", "PMI_SIZE": "8", "MPI_LOCALRANKID": "3"}, (6, 8, 3)),
    # srun --mpi=pmi2
    ({"PMI_RANK": "3", "PMI_SIZE": "4", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4",
      "SLURM_LOCALID": "1"}, (3, 4, 1)),
    # mpiexec in a step
    ({"PMI_RANK": "1", "PMI_SIZE": "4", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1",
      "SLURM_LOCALID": "0"}, (1, 4, None)),
    ({"MV2_COMM_WORLD_RANK": "1", "MV2_COMM_WORLD_SIZE": "4", "MV2_COMM_WORLD_LOCAL_RANK": "1"}, (1, 4, 1)),
    ({"PMIX_RANK": "2"}, (2, None, None)),
    ({"FLUX_TASK_RANK": "9", "FLUX_JOB_SIZE": "16", "FLUX_TASK_LOCAL_ID": "1"}, (9, 16, 1)),
    ({"OMPI_COMM_WORLD_RANK": "", "OMPI_COMM_WORLD_SIZE": ""}, (0, 1, 0)),
])
def test_placement(variables, expected):
    assert placement(variables) == Placement(*expected)


TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
            "TORCHELASTIC_RUN_ID": "none"}
STEP = {"SLURM_STEP_ID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize("variables, said, first", [
    (TORCHRUN, "WORLD_SIZE is 2, as torchrun sets it", False),
    ({**TORCHRUN, "RANK": "0"}, "WORLD_SIZE is 2, as torchrun sets it", True),
    ({"HOROVOD_RANK": "0", "HOROVOD_SIZE": "4"}, "HOROVOD_SIZE is 4, as horovodrun sets it", True),
    # srun -n 1 torchrun
    ({**TORCHRUN, **STEP, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},
     "WORLD_SIZE is 2, as torchrun sets it", False),
    ({**STEP, "RANK": "5", "WORLD_SIZE": "8", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"},
     "WORLD_SIZE is 8, as torchrun sets it", False),
    ({**TORCHRUN, "PMIX_RANK": "1"}, "", False),  # MPI will say how many
    ({**TORCHRUN, "PMIX_RANK": "0"}, "WORLD_SIZE is 2, as torchrun sets it", False),
    # mpirun, with the variables of torchrun for the sake of DDP
    ({**OPEN_MPI, "RANK": "5", "WORLD_SIZE": "8"}, "", False),
    ({**OPEN_MPI, "OMPI_COMM_WORLD_RANK": "0", "WORLD_SIZE": "2"}, "", True),  # left over in the shell
    ({**OPEN_MPI, "OMPI_COMM_WORLD_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}, "", True),
    ({"RANK": "0", "WORLD_SIZE": "1"}, "", True),
    ({"WORLD_SIZE": "2"}, "", True),
    ({"RANK": "first", "WORLD_SIZE": "many"}, "", True),
    ({}, "", True),
])
def test_a_launcher_that_mpi_knows_nothing_of(variables, said, first):
    assert contradiction(variables) == said and speaks(variables) == first


@pytest.mark.parametrize("variables, said", [
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, "SLURM_NTASKS is 8"),
    # salloc
    ({**STEP, "SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1",
      "SLURM_NTASKS": "8"}, "SLURM_NTASKS is 8"),
    # srun -n 1 on one of four nodes
    ({**STEP, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1", "SLURM_NNODES": "4"},
     ""), ({"SLURM_JOB_ID": "1", "SLURM_JOB_NUM_NODES": "4"}, "SLURM_JOB_NUM_NODES is 4"),
    ({"SLURM_NNODES": "1"}, ""), ({"PBS_NUM_NODES": "2"}, "PBS_NUM_NODES is 2"), ({"SLURM_NTASKS": "1"}, ""),
    ({"SLURM_NTASKS": "8", "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}, ""),  # mpirun -n 1
    ({"WORLD_SIZE": "4"}, "WORLD_SIZE is 4"), ({"WORLD_SIZE": "1"}, ""),
    ({"HOROVOD_SIZE": "2"}, "HOROVOD_SIZE is 2"),
    ({"LSB_DJOB_HOSTFILE": "a a b", "LSB_DJOB_NUMPROC": "3"}, "LSB_DJOB_HOSTFILE names 2 hosts"),
    # three slots of one host may be three threads
    ({"LSB_DJOB_HOSTFILE": "a a a", "LSB_DJOB_NUMPROC": "3"}, ""),
    ({"LSB_DJOB_HOSTFILE": "a b", "JSM_NAMESPACE_RANK": "0", "JSM_NAMESPACE_SIZE": "1"}, ""),
    ({"PBS_NODEFILE": "a b c"}, "PBS_NODEFILE names 3 hosts"), ({"PBS_NODEFILE": "a"}, ""), ({}, ""),
])
def test_more_processes_were_meant_than_were_started(tmp_path, variables, said):
    for name in {"LSB_DJOB_HOSTFILE", "PBS_NODEFILE"} & set(variables):
        (tmp_path / "hosts").write_text(variables[name].replace(" ", "\n") + "\n")
        variables = {**variables, name: str(tmp_path / "hosts")}
    assert left_out(variables) == said


def test_a_file_of_hosts_that_is_not_there_says_nothing(tmp_path):
    assert (left_out({"PBS_NODEFILE": str(tmp_path / "gone")})
            == left_out({"LSB_DJOB_HOSTFILE": str(tmp_path)}) == "")


@pytest.mark.parametrize("words", [["train", "x.toml", "--run-dir", "x"], ["pack", "digits", "-o", "x.h5"],
                                   ["score", "x"], ["probe", "x"],
                                   ["select", "x.h5", "--fraction", "0.1"], ["doctor"], ["report", "x"]])
def test_no_verb_takes_a_process_of_torchrun_for_the_only_one(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for rank, lines in (("0", 1), ("1", 0)):
        for name, value in {**TORCHRUN, "RANK": rank}.items():
            monkeypatch.setenv(name, value)
        assert main(words) == 2
        assert capsys.readouterr().err.count("comm: WORLD_SIZE is 2, as torchrun sets it, but there is MPI "
                                             "for 1; start it with mpirun,") == lines
    assert not list(tmp_path.iterdir())


def test_a_training_is_not_alone_in_a_batch_job_by_mistake(digits, config, tmp_path, monkeypatch, capsys):
    """What needs no ranks works in the shell of the job, and so does a training that is meant to be alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    train = ["train", str(config(digits, train={"epochs": 1})), "--run-dir", "run"]
    assert main(train) == 2 and not (tmp_path / "run").exists()
    error = capsys.readouterr().err
    assert error == ("hpcfilter: comm: SLURM_NTASKS is 8, but there is MPI for 1; start it with mpirun, "
                     "srun or jsrun; where one process is meant, set HPCFILTER_ALONE=1\n")
    assert main(["pack", "digits", "-o", "digits.h5"]) == 0
    with pytest.raises(InputError, match=r"SLURM_NTASKS is 8, but there is MPI for 1; "
                                         r"make the filter after init_process_group\(\)"):
        surroundings()
    monkeypatch.setenv("HPCFILTER_ALONE", "1")
    assert main(train) == 0 and isinstance(surroundings(), SerialComm)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert main([*train, "--resume"]) == 2, "one of eight that torchrun has started is not alone"


def test_many_ranks_are_not_alone(monkeypatch):
    class Two(SerialComm):
        size = 2

    monkeypatch.setenv("SLURM_NTASKS", "8")
    check_not_left_out(Two())


def test_torchrun_itself(digits, config, tmp_path):
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "-m", "hpcfilter",
             "train", config(digits), "--run-dir", tmp_path / "run"]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, timeout=TIMEOUT,
                          check=False)
    assert done.returncode and done.stderr.count("hpcfilter: comm: WORLD_SIZE is 2, as torchrun sets it, "
                                                 "but there is MPI for 1") == 1, (done.stderr)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text, variables, expected", [
    (LIST, OPEN_MPI, {"CUDA_VISIBLE_DEVICES": "2"}),
    (LIST, {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_RANK": "4", "CUDA_VISIBLE_DEVICES": "0,1,2,3"},
     {"CUDA_VISIBLE_DEVICES": "3"}),
    ("ROCR_VISIBLE_DEVICES=4,5", OPEN_MPI, {"ROCR_VISIBLE_DEVICES": "5"}),
    ("HIP_VISIBLE_DEVICES=7", OPEN_MPI, {"HIP_VISIBLE_DEVICES": "7"}),
    ("CUDA_VISIBLE_DEVICES=GPU-8d1a-77,MIG-GPU-8d1a/1/0",
     OPEN_MPI, {"CUDA_VISIBLE_DEVICES": "MIG-GPU-8d1a/1/0"}),
    (LIST, {}, {"CUDA_VISIBLE_DEVICES": "3"}),
    ("", OPEN_MPI, {}),
])
def test_a_rank_shows_itself_its_own_gpu(text, variables, expected):
    environ = {**variables, "HPCFILTER_GPU": text}
    show_own_gpu(environ)
    assert environ == {**variables, "HPCFILTER_GPU": text, **expected}


@pytest.mark.parametrize("text", ["3,2,1,0", "CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES=",
                                  "CUDA_VISIBLE_DEVICES=0,,1", "PATH=0,1", "CUDA_VISIBLE_DEVICES=0 1"])
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


def test_the_gpu_is_chosen_before_mpi_is_loaded(cold_program, monkeypatch):
    monkeypatch.setenv("HPCFILTER_GPU", LIST)
    done = cold_program(3, "visible_before_mpi")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["rank 0 saw 3", "rank 1 saw 2", "rank 2 saw 1"]


def test_a_malformed_list_is_one_line_of_all_ranks(hpcfilter):
    done = hpcfilter(2, "doctor", HPCFILTER_GPU="CUDA_VISIBLE_DEVICES:0,1")
    assert done.returncode == 2 and done.stderr.count("HPCFILTER_GPU: got 'CUDA_VISIBLE_DEVICES:0,1'") == 1
