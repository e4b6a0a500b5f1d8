"""The job scripts of all machines that come with hpcfilter: as they were (tests/jobs/golden), and right for
the scheduler and the shell."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import directives
import pytest
from fakes import toml

from hpcfilter.base.errors import InputError
from hpcfilter.cli import main
from hpcfilter.jobs import mpirun
from hpcfilter.jobs.layout import ONLY
from hpcfilter.jobs.machine import files, load_machine
from hpcfilter.jobs.schema import clock

GOLDEN = Path(__file__).parent / "golden"
RENEW = "HPCFILTER_GOLDEN=1 pytest tests/jobs/test_rendered.py"
MACHINES = sorted(path.stem for path in (files() / "machines").glob("*.toml"))
SENTINELS = {"slurm": "#SBATCH", "lsf": "#BSUB", "pbs": "#PBS", "flux": "# flux:", "sge": "#$", "local": ""}
SHELLCHECK = {  # what it is not asked about, and why
    "SC1090": "the files that are sourced, of modules and environments, are not here",
    "SC1091": "the same",
    "SC1003": "a value of the user's may end with a backslash",
    "SC2016": "a value of the user's may hold $ and `, and means just that",
    "SC2088": "the same with ~",
}
ALL_KEYS = {
    "name": "all.of-it_1", "account": "abc123", "reservation": "maintenance", "mail_user": "you@example.org",
    "omp_num_threads": 1, "modules": ["gcc/13", "it's odd"], "source": "/opt/set $up ~.sh", "doctor": True,
    "env": {"A": "${HOME}/a b", "B": "$(no) `no` \"quoted\" \\"},
}


@pytest.fixture
def render(tmp_path, capsys, monkeypatch):
    """render(machine, more words, **keys of [job]) -> the script, with the folders of this
    machine left out."""
    monkeypatch.chdir(tmp_path)
    Path("data.h5").touch()
    Path("run.toml").write_text('[data]\npath = "data.h5"\n[filter]\npolicy = "kakurenbo"\n')

    def call(machine, *words, **keys):
        queue = (load_machine(machine).limits or [None])[0]
        nodes = max(2, queue.nodes[0]) if queue and machine != "local" else 2 - (machine == "local")
        walltime = clock(min(5400, queue.walltime if queue else 5400))
        basic = {"python": "/opt/env/bin/python", "account": "abc123", "nodes": nodes, **keys}
        settings = [word for key, value in basic.items() for word in ("--set", f"job.{key}={toml(value)}")]
        code = main(["jobs", "render", "run.toml", "--machine", machine, "--walltime", walltime,
                     "--set", "train.epochs=3", *settings, *words])
        out, err = capsys.readouterr()
        assert code == 0, err
        if machine == "local":
            out = out.replace(shlex.join(mpirun(2)), "mpirun -n 2")
        return re.sub(r"# hpcfilter \d\S* on", "# hpcfilter on",
                      out.replace(str(tmp_path), "/home/you/project"))

    return call


def everything(machine, render):
    """The script with every key that the scheduler of the machine knows."""
    profile = load_machine(machine)
    more = {"mail_type": {"slurm": "END,FAIL", "pbs": "abe", "sge": "abe"}.get(profile.scheduler),
            "qos": "debug" if profile.queue_option == "--partition" else None,
            "dependency": {"slurm": "afterany:12", "lsf": "ended(12)", "pbs": "afterany:12.server",
                           "flux": "afterany:ƒ12Ab", "sge": "12"}.get(profile.scheduler),
            "stage": None if profile.template == "ibrun.sh.j2" and profile.job.ranks_per_node > 1
            else {"method": "copy", "folder": "/local/${USER} x"}, "conda_env": "my env"}
    more |= {"reservation": "77"} if profile.scheduler == "sge" else {}
    known = {key: value for key, value in {**ALL_KEYS, **more}.items()
             if value and profile.scheduler in ONLY.get(key, [profile.scheduler])}
    return render(machine, "--run-dir", "runs/it's", **known)


@pytest.fixture(params=MACHINES)
def machine(request):
    if load_machine(request.param).scheduler == "local":
        try:
            mpirun(2)
        except InputError as error:
            pytest.skip(str(error))
    return request.param


def test_as_it_was(machine, render):
    script, golden = (render(machine, omp_num_threads=1) if machine == "local" else render(machine),
                      GOLDEN / f"{machine}.sh")
    if os.environ.get("HPCFILTER_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(script)
    assert golden.exists(), f"no {golden.name}; write it with: {RENEW}"
    assert script == golden.read_text(), (f"the script of {machine} has changed; if that is meant, "
                                          f"renew it with: {RENEW}")


def test_no_golden_file_is_left_over():
    assert sorted(path.stem for path in GOLDEN.glob("*.sh")) == MACHINES


@pytest.mark.parametrize("variant", ["plain", "everything"])
def test_directives(machine, render, variant):
    script = render(machine) if variant == "plain" else everything(machine, render)
    sentinel, found = directives.read(script)
    assert sentinel == SENTINELS[load_machine(machine).scheduler]
    if variant == "everything" and sentinel:
        words = str(found)
        by_qsub = load_machine(machine).account_option == "-g"
        assert (("abc123" in words) != by_qsub and "all.of-it_1" in words
                and "12" in str(found.get("-w") or found.get("-W") or found.get("--dependency")
                                 or found.get("-hold_jid")))


@pytest.mark.parametrize("variant", ["plain", "everything"])
def test_the_shell_understands_it(machine, render, variant, tmp_path):
    script = tmp_path / "job.sh"
    script.write_text(render(machine) if variant == "plain" else everything(machine, render))
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("variant", ["plain", "everything"])
def test_shellcheck(machine, render, variant, tmp_path):
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    script = tmp_path / "job.sh"
    script.write_text(render(machine) if variant == "plain" else everything(machine, render))
    words = ["shellcheck", "-e", ",".join(SHELLCHECK), "--shell", "bash", script]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
