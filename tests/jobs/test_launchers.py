"""Rendered scripts of Open MPI under PBS, of SGE and of ibrun, under fakes of qsub, mpirun, sbatch and ibrun:
deadlines, notices, requeues, what ranks on other nodes know."""

import itertools

import pytest
from fakes import SHORT, weights

MACHINES = {  # name -> (what the fakes are told, keys of [job])
    "abci": ({"FAKE_NODE_CORES": "192"}, {}),
    "sge-openmpi": ({"FAKE_NODE_CORES": "64", "FAKE_SGE": "1"}, {}),
    "tsubame4": ({"FAKE_NODE_CORES": "192", "FAKE_SGE": "1"}, {}),
    "vista": ({"FAKE_NODE_CORES": "72"}, {"nodes": 2, "ranks_per_node": 1}),
}
LAUNCHERS = "abci", "sge-openmpi", "vista"  # one machine for each


@pytest.fixture
def submit(fake_scheduler, digits):
    """submit(machine, *words, **keys of [job]) -> CompletedProcess of the submission."""

    def call(machine, *words, **keys):
        fakes, own = MACHINES[machine]
        fake_scheduler.environment |= fakes
        return fake_scheduler.submit(digits, machine, *words, **{**own, **keys})

    return call


@pytest.mark.parametrize("machine", [name if name == "sge-openmpi" else
                                     pytest.param(name, marks=pytest.mark.nightly) for name in LAUNCHERS])
def test_the_deadline_is_followed_by_another_job_until_done(submit, fake_scheduler, undisturbed, machine):
    """It passes before the ranks are up, so that each job takes one step. SGE and Slurm queue the same job
    again, PBS has a successor."""
    done = submit(machine, *SHORT, **fake_scheduler.too_late())
    assert done.returncode == 0 and "submitted: " in done.stdout.splitlines()[-1], done.stderr
    run = fake_scheduler.workdir / "run"
    fake_scheduler.until(lambda: (run / "DONE").exists()
                         or "EXIT" in {row["state"] for row in fake_scheduler.jobs().values()}, "DONE")
    rows = fake_scheduler.finished()
    assert {row["state"] for row in rows} == {"DONE"}, fake_scheduler.logs()
    assert {stop["reason"] for stop in fake_scheduler.rows("stop")} == {"the deadline"}
    jobs = len(rows) if machine == "abci" else 1 + rows[0]["restarts"]
    assert jobs > 2 and (run / "requeues").read_text() == f"{jobs - 1}\n"
    assert weights(run) == undisturbed[SHORT]
    if machine == "abci":
        assert all(after["after"] == [row["id"]] for row, after in itertools.pairwise(rows))


@pytest.mark.parametrize("machine", ["sge-openmpi", pytest.param("vista", marks=pytest.mark.nightly)])
def test_a_notice_of_the_scheduler(submit, fake_scheduler, undisturbed, machine):
    """SGE's soft limit reaches the script and mpirun, and the ranks leave. ibrun would die of it: its ranks
    are not told, and go on to their end or to the deadline."""
    assert submit(machine, grace_seconds=1).returncode == 0
    fake_scheduler.until(lambda: len(fake_scheduler.rows("epoch")) > 2, "three epochs")
    (job,) = fake_scheduler.jobs()
    if machine == "vista":
        assert fake_scheduler.run("scancel", "--batch", "--signal=USR1", job).returncode == 0
    else:
        assert fake_scheduler.run("fake-notice", job).returncode == 0
    (row,) = fake_scheduler.finished()
    told = machine == "sge-openmpi"
    assert (row["state"], row["restarts"]) == ("DONE", int(told)), fake_scheduler.logs()
    assert [stop["reason"] for stop in fake_scheduler.rows("stop")] == ["signal USR1"] * told
    assert weights(fake_scheduler.workdir / "run") == undisturbed[()]


@pytest.mark.parametrize("machine", ["abci", "sge-openmpi"])
def test_ranks_on_other_nodes_know_what_the_script_exports(submit, fake_scheduler, machine):
    """Open MPI hands on what is named, and nothing else."""
    done = submit(machine, "--set", "train.epochs=1", grace_seconds=1, doctor=True,
                  env={"NCCL_DEBUG": "WARN", "HPCFILTER_GPU": "CUDA_VISIBLE_DEVICES=5,6"})
    assert done.returncode == 0, done.stderr
    (row,) = fake_scheduler.finished()
    log = fake_scheduler.log(row)
    assert row["state"] == "DONE", log
    doctor = log[log.index("launcher "):]
    assert "mpirun of Open MPI" in doctor and "NCCL_DEBUG=WARN" in doctor and "OMP_NUM_THREADS=1" in doctor
    assert "CUDA_VISIBLE_DEVICES=rank 0: 5; rank 1: 6" in doctor and "HPCFILTER_DEADLINE=" in doctor


@pytest.mark.parametrize("machine", MACHINES)
def test_data_on_the_nodes(submit, fake_scheduler, tmp_path, machine):
    """Brought by the launcher, once for each node, and gone at the end."""
    (tmp_path / "local of try").mkdir()
    stage = {"method": "copy", "folder": str(tmp_path / "local of ${NAME}")}
    keys = {"nodes": 1} if machine == "vista" else {}  # the fake's nodes share their folders
    done = submit(machine, "--set", "train.epochs=1", grace_seconds=1, stage=stage,
                  env={"NAME": "try"}, **keys)
    assert done.returncode == 0, done.stderr
    (row,) = fake_scheduler.finished()
    assert row["state"] == "DONE", fake_scheduler.log(row)
    assert str(tmp_path / "local of try") in (fake_scheduler.workdir / "run" / "config.toml").read_text()
    assert list((tmp_path / "local of try").iterdir()) == []


@pytest.mark.parametrize("machine", LAUNCHERS)
def test_a_failure_is_the_failure_of_the_job(submit, fake_scheduler, machine):
    fault = "rank=1,point=after_step,n=3,kind=exception"
    assert submit(machine, grace_seconds=1, env={"HPCFILTER_FAULT": fault}).returncode == 0
    (row,) = fake_scheduler.finished()
    assert row["state"] == "EXIT" and row["exit"] not in (0, 99, None) and row["restarts"] == 0
    run = fake_scheduler.workdir / "run"
    assert not {"DONE", "REQUEUE", "requeues"} & {path.name for path in run.iterdir()}


@pytest.mark.nightly
@pytest.mark.parametrize("machine", LAUNCHERS)
def test_requeues_have_a_bound(submit, fake_scheduler, machine):
    assert submit(machine, **fake_scheduler.too_late(), max_requeues=1).returncode == 0
    rows = fake_scheduler.finished(2 if machine == "abci" else 1)
    assert (rows[-1]["state"], rows[-1]["exit"]) == ("EXIT", 1), fake_scheduler.logs()
    assert "not finished after 1 requeues" in fake_scheduler.log(rows[-1])


@pytest.mark.parametrize("machine", LAUNCHERS)
def test_a_chain_leaves_at_once_when_the_run_is_done(submit, fake_scheduler, machine):
    done = submit(machine, "--chain", "2", "--set", "train.epochs=1", grace_seconds=1)
    first, second = fake_scheduler.finished(2)
    submitted = [f"submitted: {row['id']}" for row in (first, second)]
    assert done.stdout.splitlines()[-2:] == submitted, done.stderr
    assert (first["state"], second["state"], second["after"]) == ("DONE", "DONE", [first["id"]])
    assert fake_scheduler.log(second).endswith("run is finished\n")


@pytest.mark.parametrize("machine, keys", [
    ("vista", {"directives": ["--gres=gpu:1"]}), ("vista", {"directives": ["--mem=0"]}),
    ("abci", {"dependency": "afterany:999.fake"}), ("tsubame4", {"dependency": "999"}),
    ("sge-openmpi", {"directives": ["-l h_rt=1:00:00"]}), ("sge-openmpi", {"directives": ["-frobnicate"]}),
])
def test_a_script_that_is_refused(submit, fake_scheduler, machine, keys):
    done = submit(machine, grace_seconds=1, **keys)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert " has refused run/job.sh: " in done.stderr and fake_scheduler.jobs() == {}


def test_the_group_is_of_the_command_line(submit, fake_scheduler):
    """TSUBAME's qsub takes it nowhere else."""
    assert submit("tsubame4", "--set", "train.epochs=1", grace_seconds=1).returncode == 0
    (row,) = fake_scheduler.finished()
    assert row["options"]["-g"] == "abc123" and row["options"]["-l"]["node_f"] == "1"
    assert "abc123" not in (fake_scheduler.workdir / "run" / "job.sh").read_text()
