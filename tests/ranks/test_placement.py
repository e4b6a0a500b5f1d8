"""What the launchers say before MPI starts, who trains alone by mistake, and the GPU that a
rank shows itself."""

import os

import pytest

from hpcfilter.base.errors import InputError
from hpcfilter.cli import main
from hpcfilter.comm import Placement, SerialComm, check_not_left_out, placement, surroundings, world
from hpcfilter.comm.launcher import by_torchrun, contradiction, left_out, not_understood, speaks
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
    # MPI says of how many
    ({"PMIX_RANK": "2"}, (2, None, None)), ({"PALS_RANKID": "1"}, (1, None, None)),
    ({"ALPS_APP_PE": "0"}, (0, None, None)),
    ({"PMIX_RANK": "9", "PALS_RANKID": "9", "PALS_LOCAL_RANKID": "1"}, (9, None, 1)),  # mpiexec --pmi=pmix
    ({"PMIX_RANK": "3", "MPI_LOCALRANKID": "0"}, (3, None, 0)),
    ({"FLUX_TASK_RANK": "9", "FLUX_JOB_SIZE": "16", "FLUX_TASK_LOCAL_ID": "1"}, (9, 16, 1)),
    ({"OMPI_COMM_WORLD_RANK": "", "OMPI_COMM_WORLD_SIZE": ""}, (0, 1, 0)),
])
def test_placement(variables, expected):
    assert placement(variables) == Placement(*expected)


TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
            "TORCHELASTIC_RUN_ID": "none"}
STEP = {"SLURM_STEP_ID": "0", "SLURM_LOCALID": "0"}


OF_TWO = {**STEP, "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}
BY_SRUN = "but SLURM_STEP_NUM_TASKS is 2 and SLURM_PROCID 1, as srun sets them"


@pytest.mark.parametrize("variables, expected", [
    (TORCHRUN, (1, 2, 1)),
    ({"RANK": "0", "WORLD_SIZE": "2"}, (0, 2, None)),  # by hand, or deepspeed
    ({**TORCHRUN, **STEP, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, (1, 2, 1)),  # srun -n 1 torchrun
    # srun -N 2 torchrun --nnodes 2 --nproc-per-node 4, whose second node may be torchrun's first
    ({**OF_TWO, "RANK": "2", "LOCAL_RANK": "2", "WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "2"}, (2, 8, 2)),
    ({**OF_TWO, "PMIX_RANK": "1", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "2"},
     (5, 8, 1)),
    # MPI knows as much: DDP scripts export them
    ({**OPEN_MPI, "RANK": "5", "WORLD_SIZE": "8"}, (5, 8, 1)),
    ({**OPEN_MPI, "WORLD_SIZE": "2"}, (5, 8, 1)),  # left over in the shell
    ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1, 0)),
    ({"WORLD_SIZE": "2"}, (0, 1, 0)),
    ({"RANK": "first", "WORLD_SIZE": "many"}, (0, 1, 0)),
])
def test_ranks_of_torchrun(variables, expected):
    assert placement(variables) == Placement(*expected) and contradiction(variables) == ""
    assert speaks(variables) == (expected[0] == 0)


@pytest.mark.parametrize("variables, said, first", [
    ({**OF_TWO, "RANK": "5", "WORLD_SIZE": "8"},
     f"WORLD_SIZE is 8 and RANK 5, as torchrun sets them, {BY_SRUN}", False),
    ({**OF_TWO, **TORCHRUN, "RANK": "0"},
     f"WORLD_SIZE is 2 and RANK 0, as torchrun sets them, {BY_SRUN}", False),
    ({**OPEN_MPI, **TORCHRUN, "GROUP_WORLD_SIZE": "1"},
     "WORLD_SIZE is 2 and RANK 1, as torchrun sets them, but OMPI_COMM_WORLD_SIZE is 8 and "
     "OMPI_COMM_WORLD_RANK 5, as mpirun of Open MPI sets them", False),
    ({"HOROVOD_RANK": "0", "HOROVOD_SIZE": "4"},
     "HOROVOD_SIZE is 4 and HOROVOD_RANK 0, as horovodrun sets them, and no launcher of MPI has started it",
     True),
    ({**TORCHRUN, "PMIX_RANK": "1"}, "", False),  # MPI will say how many
    # prterun in srun -n 1
    ({**STEP, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "PMIX_RANK": "3"},
     "PMIX_RANK is 3, but SLURM_STEP_NUM_TASKS is 1 and SLURM_PROCID 0, as srun sets them", True),
    ({}, "", True),
])
def test_launchers_that_disagree(variables, said, first):
    assert contradiction(variables) == said and speaks(variables) == first


@pytest.mark.parametrize("variables, said", [
    ({"ALPS_APP_PE": "3"}, ""), ({"MPI_LOCALRANKID": "1"}, "MPI_LOCALRANKID is 1"),
    ({"RANK": "1"}, "RANK is 1"), ({"OMPI_COMM_WORLD_RANK": "1"}, "OMPI_COMM_WORLD_RANK is 1"),
    ({"SLURM_PROCID": "2", "SLURM_NTASKS": "8"}, "SLURM_PROCID is 2"),
    ({"LOCAL_RANK": "1"}, "LOCAL_RANK is 1"),
    ({"ALPS_APP_PE": "0"}, ""), (OPEN_MPI, ""), (TORCHRUN, ""), ({"PMIX_RANK": "2"}, ""),
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, ""), ({}, ""),
])
def test_one_of_several_that_nobody_counts(variables, said, monkeypatch):
    assert not_understood(variables) == said
    if said:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(InputError, match=f"comm: {said}, so this process is one of several, but no"):
            world()


def test_who_counts():
    assert by_torchrun(TORCHRUN) and not by_torchrun({**OPEN_MPI, "RANK": "5", "WORLD_SIZE": "8"})


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
    # srun -n 4 mpirun -n 1: four that would each train alone
    ({**STEP, "SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "OMPI_COMM_WORLD_RANK": "0",
      "OMPI_COMM_WORLD_SIZE": "1"}, "SLURM_STEP_NUM_TASKS is 4"),
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
                                   ["select", "x.h5", "--fraction", "0.1"], ["doctor"]])
def test_no_verb_takes_a_rank_of_torchrun_for_the_only_one(words, tmp_path, monkeypatch, capsys):
    """Here they cannot meet: nobody has said where."""
    monkeypatch.chdir(tmp_path)
    for rank, lines in (("0", 1), ("1", 0)):
        for name, value in {**TORCHRUN, "RANK": rank}.items():
            monkeypatch.setenv(name, value)
        assert main(words) == 2
        assert capsys.readouterr().err.count("comm: MASTER_ADDR, MASTER_PORT: missing; 2 ranks without "
                                             "mpi4py meet at MASTER_ADDR:MASTER_PORT") == lines
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variables, message", [
    ({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "first"},
     "comm: MASTER_PORT: got 'first', expected the number"),
    ({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "HPCFILTER_MEET_SECONDS": "soon"},
     "HPCFILTER_MEET_SECONDS: got 'soon', expected seconds"),
    ({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "HPCFILTER_MEET_SECONDS": "1"},
     "comm: 2 ranks do not meet at 127.0.0.1:1 within 1 s"),
    ({"HPCFILTER_COMM": "gloo", **OPEN_MPI, "WORLD_SIZE": ""},
     "HPCFILTER_COMM: got 'gloo', expected auto, mpi "),
    ({"HPCFILTER_COMM": "torch", "PMIX_RANK": "1", "WORLD_SIZE": ""}, "HPCFILTER_COMM: got torch, but this "),
])
def test_ranks_that_cannot_meet(variables, message, monkeypatch):
    for name, value in {**TORCHRUN, **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        world()


def test_a_training_is_not_alone_in_a_batch_job_by_mistake(digits, config, tmp_path, monkeypatch, capsys):
    """What needs no ranks works in the shell of the job, and so does a training that is meant to be alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    train = ["train", str(config(digits, train={"epochs": 1})), "--run-dir", "run"]
    assert main(train) == 2 and not (tmp_path / "run").exists()
    error = capsys.readouterr().err
    assert error == ("hpcfilter: comm: SLURM_NTASKS is 8, but this process was started alone; start it "
                     "with mpirun, srun, jsrun or torchrun; where one process is meant, "
                     "set HPCFILTER_ALONE=1\n")
    assert main(["pack", "digits", "-o", "digits.h5"]) == 0
    with pytest.raises(InputError, match=r"SLURM_NTASKS is 8, but this process was started alone; "
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


@pytest.mark.parametrize("text, variables, expected", [
    (LIST, OPEN_MPI, {"CUDA_VISIBLE_DEVICES": "2"}),
    (LIST, {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_RANK": "4", "CUDA_VISIBLE_DEVICES": "0,1,2,3"},
     {"CUDA_VISIBLE_DEVICES": "3"}),
    ("ROCR_VISIBLE_DEVICES=4,5", OPEN_MPI, {"ROCR_VISIBLE_DEVICES": "5"}),
    ("ZE_AFFINITY_MASK=0,1,2", OPEN_MPI, {"ZE_AFFINITY_MASK": "1"}),
    ("ZE_AFFINITY_MASK=0.0,0.1", OPEN_MPI, {"ZE_AFFINITY_MASK": "0.1"}),
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
