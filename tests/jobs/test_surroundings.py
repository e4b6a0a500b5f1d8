"""A submission from inside of another job: nothing of that job goes along, and one line says so."""

import pytest

from hpcfilter.cli import main

SLURM = {"SLURM_JOB_ID": "77", "SLURM_CPU_BIND": "none", "SLURM_NTASKS": "4", "SLURMD_NODENAME": "n1",
         "SLURM_CONF": "/etc/slurm.conf", "SBATCH_PARTITION": "mine", "MY_SLURM_X": "1"}
PBS = {"PBS_JOBID": "77.s", "PBS_NODEFILE": "/n", "PBS_O_WORKDIR": "/w", "PBS_SERVER": "s",
       "PBS_DEFAULT": "d"}
FLUX = {"FLUX_URI": "local:///x", "FLUX_ENCLOSING_ID": "f7"}


@pytest.fixture
def submit(run, submitted, tmp_path, monkeypatch, capsys):
    """submit(machine, surroundings, *words) -> (what is printed, the environment that the submitting command
    had)."""
    for name in ("sbatch", "qsub", "flux"):
        path = tmp_path / "bin" / name
        path.write_text(path.read_text().replace("#!/bin/bash\n", f"#!/bin/bash\nenv > {tmp_path}/env\n"))

    def call(machine, surroundings, *words):
        with monkeypatch.context() as context:
            for name, value in surroundings.items():
                context.setenv(name, value)
            assert main(["jobs", "submit", str(run), "--machine", machine, "--nodes", "10", *words]) == 0
        text = (tmp_path / "env").read_text() if (tmp_path / "env").exists() else ""
        return capsys.readouterr().out, dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    return call


@pytest.mark.parametrize("machine", ["frontier", "polaris", "tuolumne"])
def test_what_belongs_to_the_job_around_stays_there(machine, submit):
    out, environment = submit(machine, {**SLURM, **PBS})
    kept = {"SLURM_CONF", "SBATCH_PARTITION", "MY_SLURM_X", "PBS_SERVER", "PBS_DEFAULT"}
    assert {name for name in {**SLURM, **PBS} if name in environment} == kept
    (line,) = [line for line in out.splitlines() if line.startswith("left out of the job's environment: ")]
    assert line.endswith("7 variables of job 77, inside of which this is submitted: PBS_JOBID, PBS_NODEFILE, "
                         "PBS_O_WORKDIR, ...")


def test_outside_of_a_job_everything_is_handed_on(submit):
    wishes = {"SLURM_MPI_TYPE": "pmix", "PBS_SERVER": "s"}
    out, environment = submit("frontier", wishes)
    assert wishes.items() <= environment.items() and "left out" not in out


def test_inside_of_a_flux_allocation_there_is_no_queue(submit, tmp_path):
    script = tmp_path / "runs" / "hpcfilter" / "job.sh"
    out, environment = submit("tuolumne", FLUX, "--queue", "pdebug", "--set", "job.nodes=2")
    assert "# flux: -q" not in script.read_text() and FLUX.items() <= environment.items()
    (line,) = [line for line in out.splitlines() if "Flux allocation" in line]
    assert line == ("submitted to the Flux allocation that this is, without the queue pdebug: "
                    "its jobs end with it")
    out, _ = submit("tuolumne", {}, "--queue", "pdebug")
    assert "# flux: -q pdebug\n" in script.read_text() and "Flux allocation" not in out


def test_a_dry_run_shows_what_would_be_submitted(submit):
    out, environment = submit("tuolumne", FLUX, "--queue", "pdebug", "--dry-run")
    assert "# flux: -q" not in out and "without the queue pdebug" in out and not environment
