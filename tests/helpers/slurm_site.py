"""A user on the login node of the tests' Slurm."""

import json
import re
import sys
import time
from pathlib import Path

from conftest import TIMEOUT

from hpcfilter.study.report import read_run

MACHINE = """
about = "the emulated nodes of the tests"
source = "tests/helpers/slurm_cluster.py"
date = 2026-11-25
checked = "by these tests"
scheduler = "slurm"
[node]
cpus = {cpus}
storage = "{scratch}"
[launch]
always = ["--mpi=pmix"]
"""
# Long enough to be told to leave after its first epoch, on two ranks, whose sums do not
# depend on their order.
RUN = """
seed = 3
[data]
path = "{data}"
[model]
name = "cnn"
width = 4
[filter]
policy = "kakurenbo"
fraction = 0.3
tau = 0.2
[train]
epochs = 8
global_batch = 20
[optim]
lr = 0.05
[schedule]
warmup_epochs = 0
[job]
machine = "testbed"
nodes = 2
walltime = "00:30:00"
"""


class Site:
    """A user's folder on the login node, with a run config and the profile of the cluster.
    Jobs log into it."""

    def __init__(self, slurm, data, folder):
        self.slurm, self.folder = slurm, folder
        (folder / "machines").mkdir()
        (folder / "machines" / "testbed.toml").write_text(MACHINE.format(cpus=slurm.cpus,
                                                                         scratch=slurm.scratch))
        (folder / "run.toml").write_text(RUN.format(data=data))

    def jobs(self, verb, *words, settings=(), check=True):
        """`hpcfilter jobs VERB run.toml ...`. settings: "a.b=value" strings. Returns CompletedProcess."""
        settings = [word for setting in settings for word in ("--set", setting)]
        return self.slurm.run(sys.executable, "-m", "hpcfilter", "jobs", verb, "run.toml", *words, *settings,
                              cwd=self.folder, check=check,
                              env={"HPCFILTER_MACHINES": str(self.folder / "machines")})

    def submit(self, *words, settings=()):
        """Submit, and return the ids of the jobs."""
        return re.findall(r"^submitted: (\d+)$", self.jobs("submit", *words, settings=settings).stdout,
                          re.MULTILINE)

    def refused(self, *words, settings=()):
        """Submit what must be refused, with nothing in the queue. Returns the line that says why."""
        before = self.slurm.run("scontrol", "show", "job", "-o").stdout.count("JobId=")
        done = self.jobs("submit", *words, settings=settings, check=False)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done
        assert self.slurm.run("scontrol", "show", "job", "-o").stdout.count("JobId=") == before
        return done.stderr

    def until_epoch(self, number, run="runs/hpcfilter"):
        """Wait for the end of an epoch of a run."""
        end = time.monotonic() + TIMEOUT
        while not any(row["kind"] == "epoch" and row["epoch"] >= number for row in rows(self.folder / run)):
            assert time.monotonic() < end, f"waited {TIMEOUT} s for epoch {number} of {run}"
            time.sleep(0.05)

    def tell(self, job):
        """What Slurm does some time before the end of the walltime."""
        self.slurm.run("scancel", "--batch", "--signal=USR1", job)

    def log(self, job):
        """What a job has said so far."""
        return Path(self.slurm.job(job)["StdOut"]).read_text()

    def completed(self, job, run="runs/hpcfilter"):
        """Wait for the end of a job whose run must be DONE. Returns (what Slurm knows of it, its log, the
        last row of the run)."""
        try:
            known = self.slurm.wait(job, "COMPLETED", TIMEOUT)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log(job)}") from None
        assert (self.folder / run / "DONE").exists() and not (self.folder / run / "REQUEUE").exists()
        return known, self.log(job), read_run(self.folder / run)[2]


def rows(run_dir):
    path = run_dir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []
