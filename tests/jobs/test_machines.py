"""Machines for `hpcfilter jobs`: those that come along, the user's own, wrong ones, and what a job takes from
them. No scheduler is needed."""

import os
import subprocess
import sys
import zipfile

import pytest
from conftest import CHECKOUT, TIMEOUT

from hpcfilter.base.errors import InputError
from hpcfilter.cli import main
from hpcfilter.jobs import machine
from hpcfilter.jobs.plan import environment, plan
from hpcfilter.jobs.render import render

SHIPPED = sorted(path.stem for path in (CHECKOUT / "jobs" / "machines").glob("*.toml"))
SMALL = """
about = "a small machine"
source = "invented"
date = 2026-01-01
checked = "by this test"
scheduler = "slurm"
[node]
cpus = 8
gpus = 2
gpu = "nvidia"
storage = "/local/${USER}"
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """own(name, text): a machine of the user's own."""
    monkeypatch.setenv("HPCFILTER_MACHINES", str(tmp_path / "machines"))
    (tmp_path / "machines").mkdir()
    return lambda name, text=SMALL: (tmp_path / "machines" / f"{name}.toml").write_text(text)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_machine_that_comes_along(run, name):
    """It loads, says where its facts are from, and its defaults fit its own nodes."""
    found = machine.load_machine(name)
    assert found.source and found.date.year >= 2024 and found.checked
    nodes = found.limits[0].nodes[0] if found.limits else 1
    made = plan(run, settings=[f"job.machine={name}", f"job.nodes={nodes}"])
    assert made.layout.cpus_per_node <= found.node.cpus and made.layout.gpus_per_node <= found.node.gpus
    assert not found.node.gpus or made.layout.gpus_per_node == found.node.gpus, "a rank for each GPU"


def test_the_machines_of_the_issue_are_there():
    assert set(SHIPPED) >= {"local", "slurm-cpu", "perlmutter", "frontier", "lumi", "alps", "summit",
                            "lassen", "polaris", "tuolumne", "clariden", "daint", "santis", "delta", "mn5",
                            "aurora", "abci", "leonardo", "vista", "jupiter", "isambard-ai"}


def test_a_folder_of_the_users_own_comes_first(run, own, capsys):
    own("frontier")
    own("mine")
    assert machine.load_machine("frontier").about == "a small machine"
    assert main(["jobs", "list-machines"]) == 0
    out = capsys.readouterr().out
    assert ("mine           slurm     8 cores 2 GPUs  a small machine" in out and "machines/mine.toml" in out
            and out.count("frontier") == 2)


@pytest.mark.parametrize("text, problem", [
    (SMALL.replace("cpus = 8", "cpus = 0"), "line 8: node.cpus: expected 1 or more, got 0"),
    (SMALL.replace("cpus", "cores"), "line 8: node.cores: unknown key; known: cpus,"),
    (SMALL.replace('"slurm"', '"pjm"'),
     "line 6: scheduler: expected 'local', 'slurm', 'lsf', 'pbs', 'flux' or 'sge', got 'pjm'"),
    (SMALL.replace('gpu = "nvidia"\n', ""),
     "mine.toml: node.gpus and node.gpu (nvidia, amd, intel) go together"),
    (SMALL.replace("date = 2026-01-01\n", ""), "date: missing"),
    (SMALL + '[launch]\nalways = ["--bind={rank}"]', "expected in braces only nodes, ranks"),
    (SMALL + '[launch]\nalways = ["--bind={nodes:99999999}"]', "expected in braces only nodes, ranks"),
    (SMALL + '[launch]\nalways = ["--bind={nodes"]', "expected in braces only nodes, ranks"),
    (SMALL + '[directives]\nalways = ["--x=$(y)"]',
     "expected an option as the scheduler or the launcher takes it"),
    (SMALL + '[job]\nwalltime = "1:00"', "expected hours, minutes and seconds"),
    (SMALL + "[[limits]]\nnodes = [1, 2]", "limits.0.queue: missing"),
    (SMALL + '[[limits]]\nquue = "x"', "limits.0.quue: unknown key; known: queue, qos, nodes, walltime"),
    (SMALL + '[links]\nsource = "x"\nlatency = 2e-6\nbetween = 3\ninside = 5e10',
     "links.between: expected more than 1000000"),
    ("about = ", "not TOML"),
])
def test_a_wrong_profile_is_refused(run, own, text, problem, capsys):
    own("mine", text)
    with pytest.raises(InputError, match=r"mine\.toml") as caught:
        machine.load_machine("mine")
    assert problem in str(caught.value) and "\n" not in str(caught.value)
    assert main(["jobs", "list-machines"]) == 0
    assert "mine           cannot be used" in capsys.readouterr().out


def test_settings_later_ones_win(run, own, digits, config):
    own("mine", SMALL + '[env]\nA = "machine"\nB = "machine"\n[job]\nranks_per_node = 2\ncpus_per_rank = 4\n'
        'walltime = "00:20:00"\n')
    path = config(digits, job={"machine": "mine", "cpus_per_rank": 3}, **{"job.env": {"B": "user"}})
    made = plan(path, settings=["job.nodes=3"])
    assert (made.layout.ranks, made.job.cpus_per_rank, made.job.walltime,
            made.job.name) == (6, 3, 1200, "hpcfilter")
    assert environment(made)["A"] == "machine" and environment(made)["B"] == "user"
    assert (environment(made)["OMP_NUM_THREADS"] == "3"
            and environment(made)["HDF5_USE_FILE_LOCKING"] == "FALSE")


@pytest.mark.parametrize("more, there", [
    ([], False), (["job.directives=['--uenv=pytorch/v2.9.1:v1']"], True),
    (["job.launch=['--environment=x']"], True),
    (["job.container={kind='uenv', image='x'}"], True), (["job.container={kind='edf', image='x'}"], True),
    (["job.container={kind='shifter', image='x'}"], False), (["job.env.NCCL_NET='Socket'"], "Socket"),
    (["job.container={kind='edf', image='x'}", "job.gpus_per_rank=0"], False)])
def test_what_needs_a_plugin_is_set_with_the_image_that_brings_it(run, more, there):
    """A bare job on Alps has none, and with NCCL_NET it would not start."""
    made = plan(run, settings=["job.machine=clariden", *more])
    expected = {True: "AWS Libfabric", False: None}.get(there, there)
    assert environment(made).get("NCCL_NET") == expected


def test_small_profiles_ask_for_what_they_need(run, own):
    """Nodes and GPUs, though the profile has no directives; a profile or a job that has some
    is left alone."""
    gpus = ["job.machine=mine", "job.nodes=3", "job.ranks_per_node=2", "job.gpus_per_rank=1"]
    own("mine")
    assert "#SBATCH --gpus-per-node=2\n" in render(plan(run, settings=gpus))
    assert "--gpus-per-node" not in render(plan(run, settings=[*gpus, 'job.directives=["--gres=gpu:2"]']))
    own("mine", SMALL.replace('"slurm"', '"pbs"'))
    assert "#PBS -l select=3:ncpus=8:ngpus=2:mpiprocs=2\n" in render(plan(run, settings=gpus))


def test_a_template_counts_only_where_the_profile_names_it_and_calls_no_python(run, own, tmp_path, capsys):
    (tmp_path / "machines" / "slurm.sh.j2").write_text("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    own("mine")
    assert "#SBATCH" in render(plan(run, settings=["job.machine=mine"]))
    own("other", SMALL.replace("[node]", 'template = "own.sh.j2"\n[node]'))
    assert main(["jobs", "check", str(run), "--machine", "other"]) == 2
    (tmp_path / "machines" / "own.sh.j2").write_text("{{ job.__class__.__mro__[1].__subclasses__() }}")
    assert main(["jobs", "check", str(run), "--machine", "other"]) == 2
    err = capsys.readouterr().err
    assert "template: TemplateNotFound" in err and "template: SecurityError" in err and err.count("\n") == 2


def test_lsf_from_the_input(run, own, submitted):
    own("mine", SMALL.replace('"slurm"', '"lsf"\nsubmit_by = "input"'))
    assert main(["jobs", "submit", str(run), "--machine", "mine"]) == 0
    assert submitted() == ["bsub  #!/bin/bash"]


def test_an_installation_brings_templates_and_machines(tmp_path):
    """From the wheel, in a folder that knows nothing of the checkout."""
    build = [sys.executable, "-m", "pip", "wheel",
             "-q", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(tmp_path), "."]
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "hpcfilter", "jobs"):
        subprocess.run(["cp", "-r", CHECKOUT / name, source], timeout=TIMEOUT, check=True)
    subprocess.run(build, cwd=source, timeout=TIMEOUT, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    code = ("import hpcfilter, sys; from hpcfilter.cli import main; print(hpcfilter.__file__); "
            "sys.exit(main(['jobs', 'list-machines']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": str(tmp_path / "site")}, capture_output=True,
                          text=True, timeout=TIMEOUT, check=True)
    assert str(tmp_path / "site") in done.stdout and all(name in done.stdout for name in SHIPPED)
    assert (tmp_path / "site" / "hpcfilter" / "jobs" / "files" / "templates" / "slurm.sh.j2").exists()
