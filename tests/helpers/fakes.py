"""Fake LSF, PBS and Flux for the tests: their executables (tests/jobs/fakebin) with a table of jobs of their
own, and an end to what they started."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import psutil

from hpcfilter.jobs import mpirun, run_local
from hpcfilter.study.report import read_run

FAKEBIN = Path(__file__).parent.parent / "jobs" / "fakebin"
TIMEOUT = 180  # seconds for a job, and for a command
WALLTIME = 60  # seconds of a job that `submit` submits
# of the surroundings of the tests, which a job should not see
OURS = ("HPCFILTER_", "FAKE_", "SLURM_", "LSB_", "PBS_", "FLUX_", "OMPI_", "PMI")
RUN = """seed = 3
[data]
path = "{}"
[model]
name = "cnn"
width = 4
[filter]
policy = "kakurenbo"
fraction = 0.3
tau = 0.2
[train]
epochs = 30
global_batch = 60
[optim]
lr = 0.1
[schedule]
warmup_epochs = 0
"""  # some seconds of training
SHORT = ("--set", "train.epochs=2", "--set", "train.global_batch=1438")  # two steps


def weights(run_dir):
    """The digest of the final weights of a run."""
    return read_run(run_dir)[2]["weights"]


def in_one_piece(packed, folder, *words):
    """Train as RUN says on two ranks, without a scheduler. words: such as SHORT. Returns the digest
    of the final weights."""
    (folder / "run.toml").write_text(RUN.format(packed))
    done = run_local(2, ["-m", "hpcfilter", "train", folder / "run.toml",
                         "--run-dir", folder / "run", *words], TIMEOUT, capture=True)
    assert done.returncode == 0, done.stderr
    return weights(folder / "run")


def toml(value):
    """A value as TOML."""
    return ("{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
            if isinstance(value, dict) else json.dumps(value))


class FakeScheduler:
    """environment: what a command needs to meet the fakes, to be changed by a test. workdir: the
    folder that commands run in.

    python: the interpreter of the jobs.
    """

    def __init__(self, folder, python=sys.executable):
        self.table, self.workdir, self._python = folder / "table", folder / "work", python
        for made in (self.table, self.workdir):
            made.mkdir(parents=True)
        program, _, _, *more = mpirun(2)
        path = os.pathsep.join([str(FAKEBIN), str(Path(sys.executable).parent), os.environ["PATH"]])
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
        self.environment = {**inherited, "PATH": path, "FAKE_SCHEDULER": str(self.table),
                            "FAKE_MPIRUN": shlex.join([program, *more])}

    def run(self, *words, stdin=""):
        """Run a command beside the fakes. Returns CompletedProcess, with text."""
        return subprocess.run([str(word) for word in words], input=stdin, capture_output=True, text=True,
                              timeout=TIMEOUT, cwd=self.workdir, env=self.environment, check=False)

    def submit(self, packed, machine, *words, **keys):
        """`hpcfilter jobs submit` of RUN, two ranks on one node, one thread each. keys: of [job].
        Returns CompletedProcess."""
        (self.workdir / "run.toml").write_text(RUN.format(packed))
        basic = {"name": "try", "account": "abc123", "ranks_per_node": 2, "omp_num_threads": 1,
                 "max_requeues": 50, "python": self._python, **keys}
        settings = [word for key, value in basic.items() for word in ("--set", f"job.{key}={toml(value)}")]
        return self.run(sys.executable, "-m", "hpcfilter", "jobs", "submit", "run.toml", "--machine", machine,
                        "--walltime", "00:01:00", "--run-dir", "run", *settings, *words)

    def too_late(self):
        """Keys of [job]: the deadline has passed before the ranks are up, and each job takes one step."""
        (self.workdir / "late.sh").write_text("sleep 1.2\n")
        return {"grace_seconds": WALLTIME - 1, "source": str(self.workdir / "late.sh")}

    def rows(self, kind):
        """The rows of that kind which the run has written so far."""
        path = self.workdir / "run" / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [row for row in map(json.loads, lines) if row["kind"] == kind]

    def jobs(self):
        """{id: row} of all jobs, the oldest first."""
        rows = [json.loads(text) for text in (path.read_text() for path in self.table.glob("*.json")) if text]
        return {row["id"]: row for row in sorted(rows, key=lambda row: row["id"])}

    def until(self, condition, what):
        """Wait until the condition holds, and return its value."""
        end = time.monotonic() + TIMEOUT
        while not (value := condition()):
            broken = [path.read_text() for path in self.table.glob("*.runner") if path.stat().st_size]
            assert not broken, f"a fake is at fault: {broken[0]}"
            assert time.monotonic() < end, (f"waited {TIMEOUT} s for {what}; jobs: {self.jobs()}; logs: "
                                            f"{self.logs()}")
            time.sleep(0.05)
        return value

    def finished(self, count=1):
        """Wait until there are `count` jobs, and all have ended. Returns their rows."""
        def ended():
            rows = list(self.jobs().values())
            return (rows
                    if len(rows) >= count and all(row["state"] in ("DONE", "EXIT") for row in rows) else None)

        return self.until(ended, f"the end of {count} jobs")

    def log(self, row):
        """What a job has written so far."""
        for path in (self.workdir / row["output"], self.table / f"{row['id']}.spool"):
            if path.exists():
                return path.read_text()
        return ""

    def logs(self):
        return "\n".join(self.log(row)[-3000:] for row in self.jobs().values())

    def end(self):
        """End everything that the jobs have started, one by one."""
        while running := list(self._running()):
            for process in running:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    pass
            psutil.wait_procs(running, timeout=10)

    def _running(self):
        for process in psutil.process_iter():
            try:
                if (process.status() != psutil.STATUS_ZOMBIE
                        and process.environ().get("FAKE_SCHEDULER") == str(self.table)):
                    yield process
            except psutil.Error:
                continue  # gone meanwhile, or somebody else's
