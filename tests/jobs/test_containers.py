"""Python in an image: what stands in the script for each kind, and that a job runs there, under stand-ins
that keep from the inside what the real ones keep."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import directives
import pytest
from conftest import TIMEOUT
from fakes import FAKEBIN, toml
from goldens import check_golden, difference

from hpcfilter.cli import main
from hpcfilter.jobs.plan import describe, plan
from hpcfilter.study.report import read_run

MACHINES = {"apptainer": "frontier", "singularity": "lumi", "shifter": "perlmutter",
            "podman-hpc": "perlmutter", "edf": "alps", "uenv": "alps"}
IMAGES = {"shifter": "site/pytorch:25.06", "podman-hpc": "site/pytorch:25.06", "uenv": "pytorch/v2.9.1:v1"}
PROGRAMS = "apptainer", "singularity", "shifter", "podman-hpc"
STANDINS = os.pathsep.join([str(FAKEBIN), str(Path(sys.executable).parent), os.environ["PATH"]])
# python of an image, which says what it sees; in an image with a file `empty` there is no hpcfilter
PYTHON = """#!/bin/bash
here=${0%/bin/python}
say() { printf 'inside %s: %s\\n' "$here" "$*"; }
case "$*" in
"-c import hpcfilter"*) [ ! -e "$here/empty" ] || { echo "No module named 'hpcfilter'" >&2; exit 1; };;
"-m hpcfilter jobs stage "*) mkdir -p "${6%/*}" && cp "$5" "$6" && say "staged $6";;
*" doctor "*) say doctor;;
*" train "*)
  rank=${OMPI_COMM_WORLD_RANK-}${SLURM_PROCID-}
  [ -r run.toml ] && case "$*" in
  *data.path=*) path=$(printf '%s\\n' "$@" | sed -n s/^data.path=//p); [ -r "$path" ] || exit 9;; esac
  say "rank $rank in $PWD, threads $OMP_NUM_THREADS, master $MASTER_ADDR, secret ${SECRET-none}"
  say "deadline ${HPCFILTER_DEADLINE:?}, port ${MASTER_PORT:?}, run ${HPCFILTER_RUN_DIR:?}, own ${OWN:?}"
  say "words $*";;
*) exit 7;;
esac
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the folders project, which is the current one, and image, which is also
    site/pytorch:25.06 of the stand-ins."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for folder in ("project", "data", "images/site/pytorch-25.06/bin", "node"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "image").symlink_to("images/site/pytorch-25.06")
    (tmp_path / "image.sif").touch()
    (tmp_path / "data" / "data.h5").write_text("rows")
    monkeypatch.chdir(tmp_path / "project")
    Path("run.toml").write_text('[data]\npath = "../data/data.h5"\n[filter]\npolicy = "kakurenbo"\n')
    python(tmp_path, PYTHON)
    return tmp_path


def python(place, text):
    path = place / "image" / "bin" / "python"
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def render(place, capsys):
    """render(machine, **keys of [job]) -> the script."""
    def call(machine, **keys):
        settings = [word for key, value in {"account": "abc123", **keys}.items()
                    for word in ("--set", f"job.{key}={toml(value)}")]
        code = main(["jobs", "render", "run.toml", "--machine", machine, "--run-dir", "run", *settings])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return call


def container(kind, place, **more):
    """The table [job.container] for a kind."""
    file = place / "image.toml" if kind == "edf" else place / "image"
    return {"kind": kind, "image": IMAGES.get(kind, str(file)), **more}


def run(script, place, **variables):
    """Run a script with the stand-ins on PATH. Returns CompletedProcess, with text."""
    Path("job.sh").write_text(script)
    environment = {"PATH": STANDINS, "HOME": str(place), "SECRET": "mine",
                   "FAKE_IMAGES": str(place / "images"), "OMPI_ALLOW_RUN_AS_ROOT": "1",
                   "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "LD_LIBRARY_PATH": "/host", **variables}
    return subprocess.run(["bash", "job.sh"], capture_output=True, text=True, timeout=TIMEOUT,
                          env=environment, check=False)


@pytest.mark.parametrize("kind", MACHINES)
def test_as_it_was(kind, render, place):
    """What the script has beyond that without a container."""
    (place / "image.toml").touch()
    more = {"uenv": {"view": "default"}, "edf": {}}.get(kind, {"bind": ["/opt/site:/site:ro"]})
    staged = {"method": "copy", "folder": "/local"}
    given = {"python": "python", "stage": staged, "nodes": 2, "omp_num_threads": 1}
    script = render(MACHINES[kind], container=container(kind, place, **more), **given)
    bare = render(MACHINES[kind], **given)
    check_golden(f"containers/{kind}.diff", difference(bare, script).replace(str(place), "/home/you"))
    directives.read(script)
    assert subprocess.run(["bash", "-n"], input=script, text=True, timeout=20, check=False).returncode == 0
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", "-e", "SC1091,SC2016", "-"], input=script, text=True, timeout=60,
                              capture_output=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_job_runs_inside(kind, render, place):
    """Doctor, staging and every rank do, from the folder of the work; what the script exports is there."""
    script = render("local", container=container(kind, place), doctor=True, env={"OWN": "a b"},
                    omp_num_threads=1, cpus_per_rank=1, requeue=False,
                    stage={"method": "copy", "folder": str(place / "node")})
    done = run(script, place)
    assert done.returncode == 0, done.stderr + done.stdout
    inside = [line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith("inside ")]
    secret = "none" if kind == "podman-hpc" else "mine"
    for rank in (0, 1):
        assert (f"rank {rank} in {place}/project, threads 1, master 127.0.0.1, secret {secret}" in inside)
    assert len([line for line in inside if line.endswith("run run, own a b")]) == 2
    assert inside.count("doctor") == 2 and len([line for line in inside if line.startswith("staged ")]) == 1
    assert list((place / "node").iterdir()) == [], "the copy is removed, by the script outside"


def slurm(place):
    return {"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "n1,n2", "OWN": "x"}


def test_edf_is_a_word_of_srun(render, place):
    (place / "image.toml").write_text(f'image = "{place}/image"\nmounts = ["{place}:{place}"]\n')
    script = render("slurm-cpu", container=container("edf", place), ranks_per_node=2, cpus_per_rank=1,
                    doctor=True, wrap=["env", "OWN=from wrap"],
                    stage={"method": "copy", "folder": str(place / "node")})
    done = run(script, place, **slurm(place))
    assert done.returncode == 0, done.stderr + done.stdout
    assert f"rank 1 in {place}/project, threads 1, master n1, secret mine" in done.stdout
    assert done.stdout.count("own from wrap") == 2 and done.stdout.count("doctor") == 2


def test_uenv_is_a_directive(render, place):
    """It holds for the script, so that python is the one on PATH, and a virtual environment is activated."""
    (place / "venv" / "bin").mkdir(parents=True)
    (place / "venv" / "bin" / "activate").write_text("OWN=of-the-venv; export OWN\n")
    script = render("slurm-cpu", container=container("uenv", place, view="default"), venv=str(place / "venv"))
    _, found = directives.read(script)
    assert found["--uenv"] == IMAGES["uenv"] and found["--view"] == "default"
    done = run(script, place, **{**slurm(place), "PATH": f"{place}/image/bin:{STANDINS}"})
    assert done.returncode == 0, done.stderr + done.stdout
    assert "rank 0" in done.stdout and "own of-the-venv" in done.stdout and "wrap=" not in script


@pytest.mark.parametrize("kind", PROGRAMS)
def test_an_image_without_hpcfilter_ends_the_job_before_a_rank_is_started(kind, render, place):
    (place / "image" / "empty").touch()
    done = run(render("local", container=container(kind, place), cpus_per_rank=1), place)
    assert done.returncode == 2 and "rank" not in done.stdout.partition("deadline")[2], done.stdout
    last = done.stderr.splitlines()[-1]
    assert "cannot import hpcfilter and mpi4py" in last and "jobs/containers/README.md" in last


def test_without_mpi4py_no_image_needs_it(render, place):
    script = render("local", container=container("apptainer", place), mpi4py=False, doctor=True)
    assert "-m mpi4py" not in script and "import hpcfilter' ||" in script
    assert "python -u -m hpcfilter train" in script and "python -u -m hpcfilter doctor" in script


def test_a_venv_in_an_image_is_its_python(render, place):
    """What is activated outside would not be active inside."""
    script = render("frontier", container=container("apptainer", place), venv="~/env")
    assert "activate" not in script and '--bind "${HOME-}/env:${HOME-}/env"' in script
    assert 'program=("${wrap[@]}" "${HOME-}/env/bin/python" -u' in script


def test_folders_are_bound_where_their_links_lead(render, place):
    (place / "link.h5").symlink_to("data/data.h5")
    (place / "away").mkdir()
    script = render("frontier", container=container("apptainer", place, bind=["${SCRATCH}/x", "~/h:/h:ro"]))
    bound = script.partition("wrap=(")[2].partition(")\n")[0]
    assert f"--bind {place}/project:{place}/project --bind {place}/data:{place}/data " in bound
    assert '--bind "${SCRATCH-}/x:${SCRATCH-}/x" --bind "${HOME-}/h:/h:ro"' in bound and "--rocm" in bound
    Path("run.toml").write_text(Path("run.toml").read_text().replace("../data/data.h5", "../link.h5"))
    script = render("frontier", container=container("apptainer", place))
    assert f"--bind {place}:{place} " in script
    assert f"--bind {place}/data" not in script, "it lies in the other"


REFUSED = {  # machine, keys of [job.container], keys of [job] -> what the one line says
    "gone": ("frontier", {"kind": "apptainer", "image": "gone.sif"}, {}, "job.container.image: no file "),
    "gone edf": ("alps", {"kind": "edf", "image": "./gone.toml"}, {}, "job.container.image: no file "),
    "fetched": ("frontier", {"kind": "apptainer", "image": "docker://x/y"}, {},
                "which every rank would fetch anew; expected a file: apptainer pull image.sif docker://x/y"),
    "no image": ("frontier", {"kind": "shifter"}, {}, "job.container.image: missing; shifter needs"),
    "no kind": ("frontier", {"image": "a/b"}, {}, "job.container.kind: missing beside job.container.image"),
    "other kind": ("frontier", {"kind": "docker", "image": "a"}, {}, "job.container.kind: "),
    "edf": ("polaris", {"kind": "edf", "image": "name"}, {"nodes": 10},
            "job.container.kind: got edf, which is a part of Slurm's, on polaris with pbs"),
    "uenv": ("summit", {"kind": "uenv", "image": "name"}, {}, "got uenv, which is a part of Slurm's"),
    "uenv's name": ("alps", {"kind": "uenv", "image": "a b"}, {}, "expected the name of a uenv"),
    "view": ("frontier", {"kind": "shifter", "image": "a", "view": "x"}, {}, "view: shifter has none"),
    "edf's binds": ("alps", {"kind": "edf", "image": "name", "bind": ["/a"]}, {}, "write it into the mounts"),
    "bind": ("frontier", {"kind": "shifter", "image": "a", "bind": ["/a,/b"]}, {}, "SOURCE:PLACE:ro"),
    "conda": ("frontier", {"kind": "shifter", "image": "a"}, {"conda_env": "x"}, "job.conda_env: got one"),
    "two": ("frontier", {"kind": "shifter", "image": "a"}, {"venv": "/v", "python": "/p"},
            "job.venv: got one"),
}


REFUSED |= {  # words of apptainer that keep the launcher's variables out
    f"shut {word}": ("frontier", {"kind": kind, "image": "../image.sif", "args": ["-B", "/opt", word]}, {},
                     f"job.container.args: got {word!r} with {kind}, which keeps the launcher's variables")
    for kind, word in (("apptainer", "--cleanenv"), ("singularity", "--containall"), ("apptainer", "-e"),
                       ("apptainer", "-C"), ("singularity", "-fe"), ("apptainer", "--cleanenv=true"))}


def test_words_that_only_look_as_if_they_kept_variables_out(render, place):
    args = ["--contain", "-B", "-C", "-B/e/C", "--env=e=C", "--cleanenv=false", "-c"]
    script = render("frontier", container=container("apptainer", place, args=args))
    assert " --contain -B -C -B/e/C --env=e=C --cleanenv=false -c " in script


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_started_is_refused(case, place, capsys):
    machine, table, keys, message = REFUSED[case]
    settings = [word for key, value in {"account": "a", "container": table, **keys}.items()
                for word in ("--set", f"job.{key}={toml(value)}")]
    assert main(["jobs", "check", "run.toml", "--machine", machine, *settings]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1, err


def test_an_image_that_only_the_machine_has(render, place):
    script = render("frontier", container={"kind": "apptainer", "image": "${IMAGES}/x.sif"})
    assert '"${IMAGES-}/x.sif")\n' in script


def test_a_person_is_told_of_the_image(place):
    made = plan("run.toml", settings=["job.machine=slurm-cpu", "job.container.kind=apptainer",
                                      "job.container.image=../image.sif"])
    line = f"Python runs in the image {place}/project/../image.sif, by apptainer"
    assert line in describe(made).splitlines()


def test_an_environment_for_python_elsewhere(render, place):
    """Words between the launcher and Python, for what we do not know: in training, doctor and staging."""
    script = render("slurm-cpu", wrap=["site-run", "--env=${USER}"], python="python", doctor=True,
                    stage={"method": "copy", "folder": "/local"})
    assert 'wrap=(site-run "--env=${USER-}")\n' in script
    assert script.count('"${wrap[@]}" python') == 3 and "import hpcfilter" not in script


def test_real_ranks_train_in_an_image(warm, digits, config, place, capsys):
    python(place, f'#!/bin/bash\nexec {warm.program()} "$@"\n')
    settings = [f"job.container={toml(container('apptainer', place))}", "train.epochs=1"]
    words = [word for setting in settings for word in ("--set", setting)]
    words = ["render", str(config(digits)), "--machine", "local", "--run-dir", "run", *words]
    assert main(["jobs", *words]) == 0
    done = run(capsys.readouterr().out, place)
    assert done.returncode == 0, done.stderr + done.stdout
    first, rows, end = read_run(place / "project" / "run")
    assert first["ranks"] == 2 and len(rows) == 1 and end["exit"] == 0
