"""hpcfilter doctor: the rules on invented facts, the report, and what one process finds."""

import copy
import fcntl
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from conftest import TIMEOUT

from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run
from hpcfilter.data import trial as disk
from hpcfilter.data.table import write_table
from hpcfilter.jobs import run_local
from hpcfilter.jobs.doctor import examination, facts, report, trial
from hpcfilter.jobs.doctor.notes import notes
from hpcfilter.jobs.doctor.rules import problems
from hpcfilter.train import network
from hpcfilter.train.exchange.engine import Alone

GIB = 1 << 30
HEALTHY = {
    "host": "nid001", "python": "/opt/python",
    "versions": {"python": "3.11.2", "torch": "2.10.0", "horovod": "0.28.1"}, "cores": [0, 1, 2, 3],
    "machine_cores": 8, "memory": 256 * GIB, "gpu_files": 0, "now": 1000.0, "deadline": float("inf"),
    "environment": {"OMP_NUM_THREADS": "4", "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "600"},
    "mpi": {"library": "Open MPI v5.0.11", "threads": "multiple"},
    "torch": {"build": "CPU", "gpus": 0, "device": "cpu", "backends": ["gloo"]},
    "horovod": {"mpi": True, "gloo": False, "nccl": False, "cuda": False, "rocm": False},
    "hdf5": {"version": "1.14.6", "mpi": False},
    "folder": {"path": "/scratch", "free": 5 * GIB, "write": "", "lock": ""},
}
MEASURED = {"ranks": 2, "backend": "mpi", "engine": "horovod", "why": "it works", "counted": 16384,
             "latency": 2e-5, "bytes": 64 << 20, "seconds": 0.01, "wrong": 0}


def gpu(index=0, gpus=4, uuid=""):
    return {"gpu_files": 4, "horovod": {"mpi": True, "nccl": True},
            "torch": {"build": "CUDA 12.8", "gpus": gpus, "device": f"cuda:{index}", "index": index,
                      "name": "A100", "uuid": uuid, "backends": ["nccl", "gloo"]}}


def apart(*pairs):
    """Beside a `gpu`: the pairs of GPUs without P2P."""
    return {"torch": {**gpu(0, 4)["torch"], "apart": list(pairs)}}


def shown(**variables):
    return {"environment": {**HEALTHY["environment"], **variables}}


def ranks(*changes):
    """The facts of as many ranks as there are changes to those of a sound one."""
    return [{**copy.deepcopy(HEALTHY), **change} for change in changes]


def all_of(number, change):
    return ranks(*[change] * number)


PROBLEMS = {
    "versions": (ranks({}, {"versions": {**HEALTHY["versions"], "torch": "2.9.1"}}, {}),
                 r"^torch: got ranks 0, 2: 2\.10\.0; rank 1: 2\.9\.1, expected one version"),
    "a missing package": (ranks({}, {"versions": {**HEALTHY["versions"], "horovod": None}}),
                          r"^horovod: got rank 0: 0\.28\.1; rank 1: missing"),
    "no torch": (all_of(1, {"torch": {"error": "No module named 'torch'"},
                            "horovod": {"error": "No module named 'torch'"}}),
                 r"^torch: cannot be used: rank 0: No module named 'torch'; install"),
    "no h5py":
    (ranks({}, {"hdf5": {"error": "libhdf5.so: not found"}, "folder": {"error": "libhdf5.so: not found"}}),
     r"^hdf5: cannot be used: rank 1: libhdf5"),
    "one GPU for two, by UUID": (ranks(gpu(0, 1, "GPU-a") | shown(CUDA_VISIBLE_DEVICES="2"),
                                       gpu(0, 1, "GPU-b"),
                                       gpu(0, 1, "GPU-a") | shown(CUDA_VISIBLE_DEVICES="2")),
                                 r"^GPU: got ranks 0, 2: GPU 2 of nid001, expected one per rank"),
    "one GPU for two, by index": (ranks(gpu(1), gpu(0), gpu(0, 1) | shown(CUDA_VISIBLE_DEVICES="1")),
                                  r"^GPU: got ranks 0, 2: GPU 1 of nid001,"),
    "one GPU for two, in ROCm": (ranks(gpu(0, 1) | shown(ROCR_VISIBLE_DEVICES="5,6", HIP_VISIBLE_DEVICES="1"),
                                       gpu(1, 2) | shown(ROCR_VISIBLE_DEVICES="5,6")),
                                 r"^GPU: got ranks 0-1: GPU 6 of nid001,"),
    "one GPU for two, of Intel": (ranks(gpu(0, 1) | shown(ZE_AFFINITY_MASK="3"),
                                        gpu(0, 1) | shown(ZE_AFFINITY_MASK="3")),
                                  r"^GPU: got ranks 0-1: GPU 3 of nid001,"),
    "an empty mask of Level Zero, which hides nothing": (
        all_of(2, {"gpu_files": 4} | shown(ZE_AFFINITY_MASK="")),
        r"^GPU: the node has GPUs, but ranks 0-1: "),
    "GPUs that torch does not see": (ranks({}, {"gpu_files": 4}),
                                     r"^GPU: the node has GPUs, but rank 1: torch for CPU sees none;"),
    "one core for all": (all_of(4, {"cores": [0]} | shown(OMP_NUM_THREADS="1")),
                         r"^cores: got ranks 0-3: core 0 of nid001 alone, expected"),
    "more threads than cores": (ranks({}, shown(OMP_NUM_THREADS="999")),
                                r"^OMP_NUM_THREADS: got rank 1: 999 threads on 4 cores, expected"),
    "nested threads": (all_of(2, shown(OMP_NUM_THREADS="8,2")),
                       r"^OMP_NUM_THREADS: got ranks 0-1: 8 threads on 4 cores"),
    "a folder that cannot be written":
    (ranks({}, {"host": "nid002", "folder": {**HEALTHY["folder"], "write": "Read-only file system"}}),
     r"^folder: HDF5 cannot write there: rank 1: /scratch \(Read-only file system\); give another"),
    "a folder that cannot be locked":
    (ranks({"folder": {**HEALTHY["folder"], "lock": "errno 524"}}, {"folder": None}),
     r"^folder: HDF5 cannot lock there: rank 0: /scratch \(errno 524\); export HDF5_USE_FILE_LOCKING=FALSE"),
    "a deadline that is past": (all_of(2, {"deadline": 999.0}),
                                r"^HPCFILTER_DEADLINE: is past on ranks 0-1, expected"),
    "no deadline at all":
    (all_of(2, {"deadline": {"error": "HPCFILTER_DEADLINE: got 'soon', expected seconds"}}),
     r"ranks 0-1: HPCFILTER_DEADLINE: got 'soon'"),
}
NO_PROBLEMS = {
    "sound": all_of(3, {}),
    "several processes without Horovod": all_of(2, {"horovod": {"error": "No module named 'horovod'"}}),
    "MPI that Horovod cannot take": all_of(2, {"mpi": {"library": "MPICH", "threads": "serialized"}}),
    "one process without Horovod": all_of(1, {"mpi": {}, "horovod": {"error": "No module named 'horovod'"}}),
    "one process on a GPU, Horovod without NCCL": ranks(gpu() | {"horovod": HEALTHY["horovod"]}),
    "a GPU for each rank": ranks(*(gpu(rank) for rank in range(4))),
    "a GPU for each rank, which shows itself": ranks(*(gpu(0, 1) | shown(CUDA_VISIBLE_DEVICES=f"{rank}")
                                                       for rank in range(4))),
    "a GPU of Intel for each rank": ranks(*(gpu(0, 1) | shown(ZE_AFFINITY_MASK=f"{rank}")
                                            for rank in range(4))),
    "GPUs of equal numbers that are others": ranks(gpu(0, 1, "GPU-a") | shown(CUDA_VISIBLE_DEVICES="0"),
                                                   gpu(0, 1, "GPU-b") | shown(CUDA_VISIBLE_DEVICES="0")),
    "equal numbers on two nodes": ranks(gpu() | {"cores": [0]} | shown(OMP_NUM_THREADS="1"), gpu()
                                        | {"cores": [0], "host": "nid002"} | shown(OMP_NUM_THREADS="1")),
    "GPUs that are not wanted": all_of(2, {"gpu_files": 4} | shown(CUDA_VISIBLE_DEVICES="")),
    "a machine of one core": all_of(2, {"cores": [0], "machine_cores": 1} | shown(OMP_NUM_THREADS="1")),
    "a core each": ranks(*({"cores": [rank]} | shown(OMP_NUM_THREADS="1") for rank in range(4))),
    "a deadline to come": all_of(2, {"deadline": 1001.0}),
}


@pytest.mark.parametrize("found, expected", PROBLEMS.values(), ids=PROBLEMS)
def test_each_fault_is_one_problem(found, expected):
    (line,) = problems(found, MEASURED)
    assert re.search(expected, line) and "\n" not in line


@pytest.mark.parametrize("found", NO_PROBLEMS.values(), ids=NO_PROBLEMS)
def test_what_is_sound_is_no_problem(found):
    assert problems(found, {} if len(found) == 1 else MEASURED) == []


@pytest.mark.parametrize(
    "measured, expected",
    [({**MEASURED, "wrong": 3}, r"^allreduce: got 3 wrong elements on 2 ranks together, expected none"),
     ({"ranks": 2, "counted": 16384, "latency": 2e-5, "error": "Duplicate GPU"}, "failed: Duplicate GPU")])
def test_a_sum_that_goes_wrong_is_a_problem(measured, expected):
    (line,) = problems(all_of(2, {}), measured)
    assert re.search(expected, line)


@pytest.mark.parametrize("found, expected", [
    (all_of(1, {}), ["one process"]),
    (all_of(2, {}), []),
    (all_of(2, {"environment": {"HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "600"}}),
     ["OMP_NUM_THREADS is unset on ranks 0-1"]),
    (ranks({}, {"environment": {"OMP_NUM_THREADS": "1"}}),
     ["HOROVOD_STALL_SHUTDOWN_TIME_SECONDS is 0 or unset on rank 1"]),
    (all_of(2, {"gpu_files": 4} | shown(CUDA_VISIBLE_DEVICES="")), ["GPUs are hidden from ranks 0-1"]),
    (all_of(2, gpu(0, 2) | apart([0, 1])),
     ["GPUs of a node cannot read each other's memory: ranks 0-1: 0 and 1; NCCL"]),
    (ranks(gpu(0, 4) | apart(*([0, other] for other in (1, 2, 3)), [1, 2], [1, 3]), gpu(1, 4) | apart()),
     ["rank 0: 0 and 1, 0 and 2, 0 and 3 and 2 pairs more; NCCL"]),
    (all_of(2, gpu(0, 4) | apart()), []),
    (all_of(2, gpu(0, 1)), []),
    (all_of(9, {}), ["more ranks than cores on the node of ranks 0-8"]),
])
def test_notes(found, expected):
    assert (len(notes(found)) == len(expected)
            and all(text in line for text, line in zip(expected, notes(found), strict=True)))


def test_the_map_has_a_line_per_node_and_thousands_of_ranks_stay_readable():
    found = ranks(*(gpu(0, 1, f"GPU-{rank}") | shown(CUDA_VISIBLE_DEVICES=f"{rank % 4}")
                    | {"host": f"nid{rank // 4:04d}", "cores": [rank % 4]} for rank in range(4096)))
    lines = report.describe(found, {"name": "srun", "variables": {"SLURM_PROCID": "0"}})
    assert len(lines) < 1024 + 20 and max(map(len, lines)) < 250
    assert "  nid0001    ranks 4-7; 256 GiB; 8 cores: 0 | 1 | 2 | 3; GPU: 0 | 1 | 2 | 3" in lines
    assert any(line.endswith("CUDA_VISIBLE_DEVICES=1024 ranks, first 0: 0; 1024 ranks, first 1: 1; "
                             "1024 ranks, first 2: 2; 1024 ranks, first 3: 3") for line in lines)
    (line, *_) = problems(ranks(*({"host": f"nid{rank // 4:04d}"} | shown(OMP_NUM_THREADS=f"{5 - rank % 2}")
                                  for rank in range(4096))), MEASURED)
    assert "2048 ranks, first 0: 5 threads on 4 cores" in line and len(line) < 250


def test_the_launcher_is_named():
    assert facts.launcher({"HOME": "/root"}) == {"name": "none", "variables": {}}
    srun = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1", "PMIX_RANK": "3"}
    assert facts.launcher({**srun, "SLURM_JOB_ID": "7"}) == {"name": "srun", "variables": srun}


def test_differences_between_ranks_are_told():
    found = ranks({}, {"horovod": {"error": "no such thing"}}, {"python": "/usr/bin/python"})
    text = "\n".join(report.describe(found, {"name": "none", "variables": {}}))
    assert ("ranks 0, 2: built with mpi; without gloo, nccl, cuda, rocm; rank 1: "
            "cannot be used (no such thing)" in text)
    assert "ranks 0-1: /opt/python; rank 2: /usr/bin/python" in text


def test_bus_bandwidth():
    # 2 (2 - 1) / 2 * 67.1 MB / 10 ms
    assert "64 MiB by horovod: 0.0100 s, bus bandwidth 6.71 GB/s" in "\n".join(report.speed(MEASURED))
    assert "bus bandwidth 10.07 GB/s" in "\n".join(report.speed({**MEASURED, "ranks": 4}))


def test_secrets_are_not_gathered():
    wanted = {"HOROVOD_CYCLE_TIME": "1", "NCCL_DEBUG": "INFO", "FI_PROVIDER": "cxi", "OMP_NUM_THREADS": "7",
              "CUDA_VISIBLE_DEVICES": "0"}
    others = dict.fromkeys(["AWS_SECRET_ACCESS_KEY", "HOROVOD_SECRET_KEY", "_HOROVOD_SECRET_KEY",
                            "HPCFILTER_TOKEN", "HOME", "MY_OMP_X"], "x")
    assert facts.environment({**others, **wanted}) == wanted


def test_facts_are_gathered_in_order_and_held_once():
    def go(comm):
        return facts.gather(comm,
                            {"rank": comm.rank, "versions": {"torch": "2.10.0"}, "deadline": float("inf")})

    first, *others = run(4, go)
    assert [found["rank"] for found in first] == [0, 1, 2, 3] and others == [[], [], []]
    assert all(found["versions"] is first[0]["versions"] and found["deadline"] == float("inf")
               for found in first)


def test_a_sum_that_forgets_the_others_is_seen(monkeypatch):
    """Sums that leave the other ranks out: to the trial that is a broken network."""
    monkeypatch.setattr(trial, "engine_for", lambda comm, device: Alone(comm))
    own = {"torch": {"device": "cpu"}}
    for measured in run(2, lambda comm: trial.measure(comm, own)):
        assert measured["wrong"] > 0 and measured["seconds"] > 0


def test_a_failing_sum_is_reported_by_all():
    own = {"torch": {"device": "no such device"}}
    for measured in run(2, lambda comm: trial.measure(comm, own)):
        assert "no such" in measured["error"] and "wrong" not in measured


def test_one_rank_without_torch_keeps_all_from_the_trial():
    def go(comm):
        return trial.measure(comm, {"torch": {"device": "cpu"} if comm.rank else {"error": "missing"}})

    assert all(set(measured) == {"ranks", "backend", "counted", "latency"} for measured in run(2, go))


def test_the_device_is_the_one_that_a_run_takes(monkeypatch):
    about = SimpleNamespace(name="A100", uuid="8d1a")
    for name, fake in {"is_available": lambda: True, "device_count": lambda: 4,
                       "set_device": lambda index: None,
                       "can_device_access_peer": lambda one, other: {one, other} != {1, 2} or one > other,
                       "get_device_properties": lambda index: about}.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    for local_rank in range(6):
        found = facts.torch_facts(local_rank)
        assert (found["device"] == str(network._device("auto", local_rank))
                and found["index"] == local_rank % 4)
        assert (found["gpus"], found["name"], found["uuid"]) == (4, "A100", "8d1a")
        assert found["apart"] == [[1, 2]], "one direction is not enough"


def test_the_folder_is_tried(tmp_path, monkeypatch):
    found = disk.try_folder(tmp_path, "probe")
    assert found["write"] == found["lock"] == "" and found["free"] > 0 and not list(tmp_path.iterdir())
    assert disk.try_folder(tmp_path / "none", "probe")["write"] == "No such file or directory"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert (disk.try_folder(tmp_path, "probe")["write"] == "No space left on device"
            and not list(tmp_path.iterdir()))


@pytest.mark.parametrize("wanted, expected", [("TRUE", "Resource temporarily unavailable"), ("FALSE", "")])
def test_a_lock_that_is_not_given_is_seen(tmp_path, wanted, expected):
    path = tmp_path / "table.h5"
    write_table(path, 1, {"probe": ("int64", [[7]])}, {})
    # HDF5 reads the variable when it is loaded
    code = f"from hpcfilter.data.trial import lock_problem; print(lock_problem({str(path)!r}))"
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = run_local(1, ["-c", code], TIMEOUT, capture=True, HDF5_USE_FILE_LOCKING=wanted)
    assert done.stdout == f"{expected}\n", done.stderr


def test_alone(tmp_path, capsys):
    assert examination.doctor(SerialComm(), tmp_path) == []
    out = capsys.readouterr().out
    assert (f"folder       {tmp_path}: can write" in out and "MPI          not started" in out
            and "note: one process" in out)
    assert "allreduce" not in out and out.endswith("problem: none\n")
