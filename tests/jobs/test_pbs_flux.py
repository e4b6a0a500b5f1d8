"""Rendered PBS and Flux scripts under fakes of qsub, mpiexec and flux: deadlines, signals,
resubmission, failures."""

import itertools

import pytest
from fakes import SHORT, weights

MACHINES = {  # name -> (cores and GPUs of a node, keys of [job])
    "polaris": ({"FAKE_NODE_CORES": "32", "FAKE_NODE_GPUS": "4"}, {"queue": "debug"}),
    "tuolumne": ({"FAKE_NODE_CORES": "96", "FAKE_NODE_GPUS": "4"}, {}),
}


@pytest.fixture
def submit(fake_scheduler, digits):
    """submit(machine, *words, **keys of [job]) -> CompletedProcess of the submission."""

    def call(machine, *words, **keys):
        node, own = MACHINES[machine]
        fake_scheduler.environment |= node
        return fake_scheduler.submit(digits, machine, *words, **{**own, **keys})

    return call


@pytest.mark.parametrize("machine", [pytest.param("polaris", marks=pytest.mark.nightly), "tuolumne"])
def test_the_deadline_resubmits_until_done(submit, fake_scheduler, undisturbed, machine):
    """It passes before the ranks are up, so that each job takes one step."""
    done = submit(machine, *SHORT, **fake_scheduler.too_late())
    assert (done.returncode == 0 and done.stdout.splitlines()[-1]
            == f"submitted: {next(iter(fake_scheduler.jobs()))}"), done.stderr
    run = fake_scheduler.workdir / "run"
    fake_scheduler.until(lambda: (run / "DONE").exists()
                         or "EXIT" in {row["state"] for row in fake_scheduler.jobs().values()}, "DONE")
    rows = fake_scheduler.finished()
    assert len(rows) > 2 and {row["state"] for row in rows} == {"DONE"}, fake_scheduler.logs()
    assert {stop["reason"] for stop in fake_scheduler.rows("stop")} == {"the deadline"}
    assert weights(run) == undisturbed[SHORT] and (run / "requeues").read_text() == f"{len(rows) - 1}\n"
    for row, following in itertools.pairwise(rows):
        assert f"goes on as job {following['id']}" in fake_scheduler.log(row), "each job has a log of its own"
        assert following["after"] == [row["id"]], "both never write at the same time"


@pytest.mark.parametrize("old", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_flux_passes_a_signal_to_the_ranks(submit, fake_scheduler, undisturbed, old):
    """Before 2025 to them alone, and one to `flux run` would have ended it; since then the
    batch script has it too."""
    fake_scheduler.environment |= {"FAKE_FLUX_OLD": "1"} if old else {}
    assert submit("tuolumne", grace_seconds=1).returncode == 0
    fake_scheduler.until(lambda: len(fake_scheduler.rows("epoch")) > 2, "three epochs")
    (first,) = fake_scheduler.jobs()
    assert fake_scheduler.run("flux", "job", "kill", "--signal=USR1", first).returncode == 0
    rows = fake_scheduler.finished(2)
    assert [row["state"] for row in rows] == ["DONE", "DONE"], fake_scheduler.logs()
    assert [stop["reason"] for stop in fake_scheduler.rows("stop")] == ["signal USR1"]
    assert weights(fake_scheduler.workdir / "run") == undisturbed[()]


@pytest.mark.nightly
@pytest.mark.parametrize("machine", MACHINES)
def test_resubmissions_have_a_bound(submit, fake_scheduler, machine):
    assert submit(machine, **fake_scheduler.too_late(), max_requeues=1).returncode == 0
    first, second = fake_scheduler.finished(2)
    assert (first["state"], second["state"], second["exit"]) == ("DONE", "EXIT", 1)
    assert "not finished after 1 requeues" in fake_scheduler.log(second) and len(fake_scheduler.jobs()) == 2


@pytest.mark.parametrize("machine", MACHINES)
def test_a_failure_is_the_failure_of_the_job(submit, fake_scheduler, machine):
    assert submit(machine, grace_seconds=1,
                  env={"HPCFILTER_FAULT": "rank=1,point=after_step,n=3,kind=exception"}).returncode == 0
    (row,) = fake_scheduler.finished()
    assert row["state"] == "EXIT" and row["exit"] not in (0, None)
    assert not {"DONE", "REQUEUE", "requeues"} & {path.name
                                                  for path in (fake_scheduler.workdir / "run").iterdir()}


@pytest.mark.nightly
@pytest.mark.parametrize("machine", MACHINES)
def test_a_chain_leaves_at_once_when_the_run_is_done(submit, fake_scheduler, machine):
    done = submit(machine, "--chain", "2", "--set", "train.epochs=1", grace_seconds=1)
    first, second = fake_scheduler.finished(2)
    assert [line for line in done.stdout.splitlines()
            if "submitted: " in line] == [f"submitted: {row['id']}" for row in (first, second)], done.stderr
    assert (first["state"], second["state"], second["after"]) == ("DONE", "DONE", [first["id"]])
    assert ("the ranks" in fake_scheduler.log(first)
            and fake_scheduler.log(second).endswith("run is finished\n"))


@pytest.mark.parametrize("machine", MACHINES)
def test_data_on_the_nodes_and_a_check_of_them(submit, fake_scheduler, tmp_path, machine):
    (tmp_path / "local of try").mkdir()
    stage = {"method": "copy", "folder": str(tmp_path / "local of ${NAME}")}
    done = submit(machine, "--set", "train.epochs=1", grace_seconds=1, stage=stage, doctor=True,
                  env={"NAME": "try"})
    assert done.returncode == 0, done.stderr
    (row,) = fake_scheduler.finished()
    assert row["state"] == "DONE", fake_scheduler.log(row)
    assert str(tmp_path / "local of try") in (fake_scheduler.workdir / "run" / "config.toml").read_text()
    assert list((tmp_path / "local of try").iterdir()) == []


@pytest.mark.parametrize("machine, keys", [
    ("polaris", {"directives": ["-l nodes=2"]}), ("polaris", {"directives": ["-x 1"]}),
    ("polaris", {"dependency": "afterany:999.fake"}), ("tuolumne", {"directives": ["--frobnicate=1"]}),
    ("tuolumne", {"directives": ["-N2"]}), ("tuolumne", {"dependency": "afterany:ƒ2A999"}),
])
def test_a_script_that_is_refused(submit, fake_scheduler, machine, keys):
    done = submit(machine, grace_seconds=1, **keys)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert (f"{'qsub' if machine == 'polaris' else 'flux'} has refused run/job.sh: " in done.stderr
            and fake_scheduler.jobs() == {})
