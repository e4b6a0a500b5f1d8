"""Rendered LSF scripts under fakes of bsub, jsrun, jskill and brequeue: signals, deadlines,
requeues, failures."""

import pytest
from fakes import SHORT, weights

from hpcfilter.jobs.machine import files

# how a site wants it -> what the fake then insists on
MODES = {"file": "FAKE_LSF_ARGUMENT_ONLY", "input": "FAKE_LSF_STDIN_ONLY"}


@pytest.fixture
def lsf(fake_scheduler, digits, tmp_path):
    """lsf(*words, mode="file", **keys of [job]) -> CompletedProcess of the submission to a
    machine like Summit."""
    summit = (files() / "machines" / "summit.toml").read_text()
    assert 'submit_by = "file"' in summit
    for mode in MODES:
        (tmp_path / f"summit-{mode}.toml").write_text(summit.replace('submit_by = "file"',
                                                                     f'submit_by = "{mode}"'))
    fake_scheduler.environment["HPCFILTER_MACHINES"] = str(tmp_path)

    def submit(*words, mode="file", insists=None, **keys):
        fake_scheduler.environment[MODES[insists or mode]] = "1"
        return fake_scheduler.submit(digits, f"summit-{mode}", *words, **keys)

    return submit


@pytest.mark.parametrize("mode, reaches", [
    ("file", "shell"), pytest.param("input", "group", marks=pytest.mark.nightly)])
def test_a_signal_a_requeue_and_the_same_weights(lsf, fake_scheduler, undisturbed, mode, reaches):
    """Summit reads a script that is named, generic LSF one on the input; the signal comes to the batch shell
    alone, or to jsrun as well."""
    fake_scheduler.environment["FAKE_LSF_SIGNAL"] = reaches
    done = lsf(mode=mode, grace_seconds=1)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "submitted: 123", done.stderr
    fake_scheduler.until(lambda: len(fake_scheduler.rows("epoch")) > 2, "three epochs")
    assert fake_scheduler.run("bkill", "-s", "USR1", "123").returncode == 0
    (row,) = fake_scheduler.finished()
    assert (row["state"], row["restarts"]) == ("DONE", 1), fake_scheduler.logs()
    (stop,) = fake_scheduler.rows("stop")
    assert (stop["reason"] == "signal USR1"
            and fake_scheduler.log(row).count("the ranks have left with exit code 0") == 2)
    assert weights(fake_scheduler.workdir / "run") == undisturbed[()]


@pytest.mark.nightly
def test_the_deadline_requeues_until_done(lsf, fake_scheduler, undisturbed):
    """It passes before the ranks are up, so that each job takes one step."""
    done = lsf(*SHORT, **fake_scheduler.too_late())
    assert done.returncode == 0, done.stderr
    (row,) = fake_scheduler.finished()
    assert row["state"] == "DONE" and row["restarts"] > 1, fake_scheduler.logs()
    assert {stop["reason"] for stop in fake_scheduler.rows("stop")} == {"the deadline"}
    run = fake_scheduler.workdir / "run"
    assert weights(run) == undisturbed[SHORT] and (run / "requeues").read_text() == f"{row['restarts']}\n"


def test_a_signal_before_the_ranks_are_up(lsf, fake_scheduler, tmp_path):
    """While the environment is still being made: the job goes back to the queue all the same."""
    slow = tmp_path / "slow.sh"
    slow.write_text("if [ ! -e sourced ]; then touch sourced; sleep 2; fi\n")
    assert lsf("--set", "train.epochs=1", grace_seconds=1, source=str(slow)).returncode == 0
    fake_scheduler.until((fake_scheduler.workdir / "sourced").exists, "the environment")
    assert fake_scheduler.run("bkill", "-s", "USR1", "123").returncode == 0
    (row,) = fake_scheduler.finished()
    assert (row["state"], row["restarts"]) == ("DONE", 1), fake_scheduler.log(row)
    assert fake_scheduler.log(row).count("the ranks have left") == 1 and fake_scheduler.rows("end")


@pytest.mark.nightly
def test_requeues_have_a_bound(lsf, fake_scheduler):
    assert lsf(**fake_scheduler.too_late(), max_requeues=1).returncode == 0
    (row,) = fake_scheduler.finished()
    assert (row["state"], row["exit"], row["restarts"]) == ("EXIT", 1, 1)
    assert ("not finished after 1 requeues" in fake_scheduler.log(row).splitlines()[-1]
            and not (fake_scheduler.workdir / "run" / "DONE").exists())


@pytest.mark.parametrize("kind", ["exception", "sigkill"])
def test_a_failure_is_the_failure_of_the_job(lsf, fake_scheduler, kind):
    assert lsf(grace_seconds=1,
               env={"HPCFILTER_FAULT": f"rank=1,point=after_step,n=3,kind={kind}"}).returncode == 0
    (row,) = fake_scheduler.finished()
    assert row["state"] == "EXIT" and row["exit"] not in (0, None) and row["restarts"] == 0
    assert not {"DONE", "REQUEUE", "requeues"} & {path.name
                                                  for path in (fake_scheduler.workdir / "run").iterdir()}


def test_a_chain_leaves_at_once_when_the_run_is_done(lsf, fake_scheduler):
    done = lsf("--chain", "2", "--set", "train.epochs=1", grace_seconds=1)
    assert [line for line in done.stdout.splitlines()
            if "submitted" in line] == ["submitted: 123", "submitted: 124"], done.stderr
    first, second = fake_scheduler.finished(2)
    assert (first["state"], second["state"]) == ("DONE", "DONE") and second["after"] == ["123"]
    assert ("the ranks" in fake_scheduler.log(first)
            and fake_scheduler.log(second).endswith("run is finished\n"))
    again = lsf(grace_seconds=1)
    assert again.returncode == 2 and "the run is finished" in again.stderr and len(fake_scheduler.jobs()) == 2


def test_data_on_the_nodes(lsf, fake_scheduler, tmp_path):
    """Staged again after each requeue, and gone at the end."""
    stage = {"method": "copy", "folder": str(tmp_path / "bb with ${LSB_QUEUE}")}
    (tmp_path / "bb with batch").mkdir()
    done = lsf("--set", "train.epochs=1", "--set", "train.global_batch=1438", **fake_scheduler.too_late(),
               stage=stage)
    assert done.returncode == 0, done.stderr
    (row,) = fake_scheduler.finished()
    log = fake_scheduler.log(row)
    assert (row["state"] == "DONE" and row["restarts"] > 0
            and row["options"]["-alloc_flags"] == "smt1 nvme"), log
    assert log.count("copied") == row["restarts"] + 1
    assert str(tmp_path / "bb with batch") in (fake_scheduler.workdir / "run" / "config.toml").read_text()
    assert list((tmp_path / "bb with batch").iterdir()) == []


def test_the_ranks_are_where_they_should_be(lsf, fake_scheduler):
    """As `hpcfilter doctor` sees it before the training."""
    assert lsf("--set", "train.epochs=1", grace_seconds=1, doctor=True).returncode == 0
    (row,) = fake_scheduler.finished()
    log = fake_scheduler.log(row)
    doctor = log[log.index("launcher "):]
    assert row["state"] == "DONE" and "JSM_NAMESPACE_RANK=0 JSM_NAMESPACE_SIZE=2" in doctor, log
    assert "CUDA_VISIBLE_DEVICES=rank 0: 0; rank 1: 1" in doctor and "OMP_NUM_THREADS=1" in doctor


@pytest.mark.parametrize("mode, insists", [("file", "input"), ("input", "file")])
def test_a_script_handed_over_in_the_wrong_way(lsf, fake_scheduler, mode, insists):
    refused(lsf(mode=mode, insists=insists, grace_seconds=1), fake_scheduler)


@pytest.mark.parametrize("keys", [{"directives": ["-R x"]}, {"directives": ["-nodes 2"]},
                                  {"dependency": "ended(999)"}])
def test_a_script_that_is_refused(lsf, fake_scheduler, keys):
    refused(lsf(grace_seconds=1, **keys), fake_scheduler)


def refused(done, fake_scheduler):
    """One line says what the scheduler says."""
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert ("bsub has refused run/job.sh: " in done.stderr and "Job not submitted" in done.stderr
            and fake_scheduler.jobs() == {})
