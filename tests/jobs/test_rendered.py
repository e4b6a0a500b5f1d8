"""The job scripts of all machines that come with hpcfilter: as they were (tests/jobs/golden), and right for
the scheduler and the shell.

One script of each scheduler and launcher stands there whole; of the others what they have otherwise than
that, or than the machine that they are like.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import directives
import pytest
from fakes import toml
from goldens import GOLDEN, check_golden, difference

from hpcfilter.base.errors import InputError
from hpcfilter.cli import main
from hpcfilter.jobs import mpirun
from hpcfilter.jobs.layout import ONLY
from hpcfilter.jobs.machine import files, load_machine
from hpcfilter.jobs.schema import clock

# template -> the machine whose script stands whole
WHOLE = {"local": "local", "slurm": "slurm-cpu", "lsf": "summit", "pbs": "polaris", "flux": "tuolumne",
         "sge": "tsubame4", "openmpi": "abci", "ibrun": "vista"}
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
    script = render(machine, omp_num_threads=1) if machine == "local" else render(machine)
    if (base := base_of(machine)) == machine:
        check_golden(f"{machine}.sh", script)
    else:
        check_golden(f"{machine}.diff", difference(render(base), script))


def base_of(machine):
    """The machine whose script says the rest: the one that it is like, else that of its template."""
    profile = load_machine(machine)
    return profile.like or WHOLE[(profile.template or profile.scheduler).removesuffix(".sh.j2")]


def test_no_golden_file_is_left_over():
    assert sorted(path.name for path in GOLDEN.glob("*.*")) == sorted(
        f"{machine}.{'sh' if base_of(machine) == machine else 'diff'}" for machine in MACHINES)


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
