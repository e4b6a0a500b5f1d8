"""hpcfilter doctor on ranks that were really launched, sound ones and ones with a fault."""

import os

import pytest


def test_alone_on_the_command_line(tmp_path, hpcfilter, cold_hpcfilter):
    done = cold_hpcfilter(1, "doctor", "--folder", tmp_path)
    assert done.returncode == 0 and "launcher     none" in done.stdout and done.stderr == ""
    done = hpcfilter(1, "doctor", "--folder", tmp_path / "none")
    assert done.returncode == 1 and "problem: folder: HDF5 cannot write there: rank 0: " in done.stdout
    assert done.stderr == "hpcfilter: doctor: found 1 problem\n"


def test_two_sound_ranks(tmp_path, hpcfilter):
    done = hpcfilter(2, "doctor", "--folder", tmp_path, MY_API_TOKEN="tell-nobody",
                     HPCFILTER_GPU="CUDA_VISIBLE_DEVICES=3,2")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for text in ("launcher     mpirun of Open MPI", "OMPI_COMM_WORLD_SIZE=2", "thread level multiple",
                 "Horovod      built with mpi", f"folder       {tmp_path}: can write",
                 "CUDA_VISIBLE_DEVICES=rank 0: 3; rank 1: 2", "ranks 0-1; ", "by horovod: ", "GB/s",
                 "engine       horovod: it is built for the MPI of this launch", "by mpi: ", "problem: none"):
        assert done.stdout.count(text) == 1, f"{text}: {done.stdout}"
    assert "tell-nobody" not in done.stdout and not list(tmp_path.iterdir())


@pytest.mark.nightly
def test_two_ranks_with_faults(cold_hpcfilter):
    done = cold_hpcfilter(2, "doctor", "--folder", "/proc", OMP_NUM_THREADS="999", HPCFILTER_DEADLINE="1")
    assert done.returncode == 1 and done.stderr.count("hpcfilter: doctor: found 3 problems") == 1
    for text in ("OMP_NUM_THREADS: got ranks 0-1: 999 threads",
                 "folder: HDF5 cannot write there: rank 0: /proc",
                 "HPCFILTER_DEADLINE: is past on ranks 0-1"):
        assert done.stdout.count(f"problem: {text}") == 1


@pytest.mark.nightly
def test_two_ranks_on_one_core(tmp_path, cold_hpcfilter):
    if os.cpu_count() == 1:
        pytest.skip("this machine has one core")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})  # the ranks inherit it
        done = cold_hpcfilter(2, "doctor", "--folder", tmp_path, OMP_NUM_THREADS="1")
    finally:
        os.sched_setaffinity(0, before)
    assert done.returncode == 1 and f"problem: cores: got ranks 0-1: core {min(before)} of " in done.stdout


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("module", ["torch", "h5py"])
def test_without_a_library_it_says_what_it_can(tmp_path, cold_hpcfilter, number, module):
    (tmp_path / "sitecustomize.py").write_text(f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise ModuleNotFoundError("No module named {module}", name={module!r})

sys.meta_path.insert(0, Missing())
""")
    done = cold_hpcfilter(number, "doctor", "--folder", tmp_path, PYTHONPATH=str(tmp_path))
    name, way_out = {"torch": ("torch", "install torch, or activate the environment that has it"),
                     "h5py": ("hdf5", "reinstall h5py")}[module]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("problem: ")] == [
        f"problem: {name}: cannot be used: {'ranks 0-1' if number == 2 else 'rank 0'}: "
        f"No module named {module}; "
        f"{way_out}"]
    assert (("by mpi: " in done.stdout) == (number == 2)
            and ("by horovod: " in done.stdout) == (number == 2 and module == "h5py"))


def test_a_rank_that_hangs_ends_the_examination(program):
    done = program(2, "doctor_hangs")
    assert done.returncode != 0 and "nothing has moved for 4 s, the job ends" in done.stderr
    assert "rank 1: at " in done.stderr and "in_a_dead_disk" in done.stderr
