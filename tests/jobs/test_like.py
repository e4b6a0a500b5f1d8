"""A machine that is like another says only what differs."""

import pytest

from hpcfilter.base.errors import InputError
from hpcfilter.cli import main
from hpcfilter.jobs.machine import load_machine
from hpcfilter.jobs.plan import plan
from hpcfilter.jobs.render import render


@pytest.fixture
def own(tmp_path, monkeypatch):
    """own(name, text): a machine of the user's own."""
    monkeypatch.setenv("HPCFILTER_MACHINES", str(tmp_path / "machines"))
    (tmp_path / "machines").mkdir()
    return lambda name, text: (tmp_path / "machines" / f"{name}.toml").write_text(text)


def test_tables_go_together_and_lists_are_replaced(own):
    own("mine", 'like = "frontier"\nabout = "mine"\nrequires = []\n[env]\nA = "1"\n[job]\nqueue = "x"\n'
        '[directives]\nalways = ["--exclusive"]\n'
        '[[limits]]\nqueue = "x"\nnodes = [1, 2]\nwalltime = "01:00:00"\n')
    mine, frontier = load_machine("mine"), load_machine("frontier")
    assert (mine.name, mine.about, mine.like) == ("mine", "mine", "frontier")
    assert mine.env == frontier.env | {"A": "1"} and mine.node == frontier.node
    assert mine.job.queue == "x" and mine.job.modules == frontier.job.modules
    assert mine.directives.always == ["--exclusive"] and mine.launch == frontier.launch
    assert mine.requires == [] and [limit.queue for limit in mine.limits] == ["x"]


def test_a_family(run):
    """The machines of Alps: what they share is written once, each has its own queues."""
    alps, clariden, daint = (load_machine(name) for name in ("alps", "clariden", "daint"))
    assert clariden.node == daint.node == alps.node and clariden.gpu_env == alps.gpu_env
    longest = {machine.name: max(limit.walltime for limit in machine.limits if limit.queue == "normal")
               for machine in (clariden, daint)}
    assert longest == {"clariden": 12 * 3600, "daint": 24 * 3600} and not alps.limits
    script = render(plan(run, settings=["job.machine=clariden"]))
    assert "# hpcfilter " in script and " on clariden: " in script and "--gpus-per-task=1" in script


def test_grandparents(own):
    own("child", 'like = "parent"\n[job]\nqueue = "c"\n')
    own("parent", 'like = "lumi"\n[job]\nqueue = "p"\ncpus_per_rank = 3\n')
    child = load_machine("child")
    assert (child.job.queue, child.job.cpus_per_rank, child.node.cpus) == ("c", 3, 56)


def test_one_of_the_users_own_is_like_ours_of_the_same_name(own):
    own("frontier", 'like = "frontier"\nchecked = "by me"\n')
    found = load_machine("frontier")
    assert found.checked == "by me" and found.node.gpus == 8


def test_a_template_beside_the_parent(run, own, tmp_path):
    (tmp_path / "machines").mkdir(exist_ok=True)
    (tmp_path / "machines" / "t.sh.j2").write_text("#!/bin/bash\n# of the parent\n")
    own("parent", 'like = "lumi"\ntemplate = "t.sh.j2"\n')
    own("child", 'like = "parent"\n')
    assert render(plan(run, settings=["job.machine=child"])) == "#!/bin/bash\n# of the parent\n"


@pytest.mark.parametrize("texts, problem", [
    ({"mine": 'like = "nowhere"\n'}, r"mine\.toml, line 1: like: unknown 'nowhere'; known: abci, "),
    ({"mine": 'like = "mine"\n'}, "like: got mine -> mine, a circle; expected a profile"),
    ({"mine": 'like = "yours"\n', "yours": 'like = "mine"\n'}, "like: got mine -> yours -> mine, a circle"),
    ({"mine": "like = 3\n"}, r"mine\.toml, line 1: like: "),
    ({"mine": 'like = "yours"\n', "yours": 'like = "lumi"\n[node]\ncpus = 0\n'},
     r"yours\.toml, line 3: node\.cpus: expected 1 or more"),
    ({"mine": 'like = "lumi"\n[node]\ncores = 1\n'}, r"mine\.toml, line 3: node\.cores: unknown key"),
    ({"mine": 'like = "lumi"\nnode = 3\n'}, r"mine\.toml, line 2: node: "),
])
def test_what_is_wrong_is_one_line_with_its_place(own, texts, problem, capsys):
    for name, text in texts.items():
        own(name, text)
    with pytest.raises(InputError, match=problem) as caught:
        load_machine("mine")
    assert "\n" not in str(caught.value)
    assert main(["jobs", "list-machines"]) == 0 and "mine           cannot be used" in capsys.readouterr().out


def test_machines_that_are_gone_are_listed_apart(capsys):
    assert main(["jobs", "list-machines"]) == 0
    today, gone = capsys.readouterr().out.split("machines that are gone")
    assert "\nfrontier " in today and "summit" not in today and "\nsummit " in gone and "(2024-11-15)" in gone
