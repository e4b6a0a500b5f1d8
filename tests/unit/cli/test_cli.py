"""The command line explains itself: help, examples, exit codes, what is meant by a wrong word; and it starts
at once."""

import argparse
import shlex
import subprocess
import sys

import pytest

import hpcfilter
from hpcfilter.cli import VERBS, main, parser

HEAVY = ("torch", "mpi4py", "horovod", "h5py", "pydantic", "jinja2", "scipy")


def choices(one):
    """The verbs of a parser: name -> parser; {} without any."""
    return next(
        (action.choices for action in one._actions if isinstance(action, argparse._SubParsersAction)), {}
    )


def every_verb():
    """(name, parser) of every verb that does something, such as "jobs check"."""
    for name, one in choices(parser()).items():
        yield from [(f"{name} {sub}", its) for sub, its in choices(one).items()] or [(name, one)]


def shown(words, capsys):
    """What a call prints that asks for help. It ends with exit code 0, and without a word on the error
    output."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capsys.readouterr()
    assert ended.value.code == 0 and err == ""
    return out


def test_the_verbs():
    assert (
        set(VERBS)
        == set(choices(parser()))
        == {"pack", "train", "score", "select", "probe", "report", "jobs", "doctor", "explain"}
    )


def test_a_verb_lives_in_its_district():
    for name, module in VERBS.items():
        assert module.rpartition(".")[2] in ("verb", name), module


@pytest.mark.parametrize("words", [[], ["jobs"]])
def test_alone_it_shows_its_help(words, capsys):
    verbs = choices(choices(parser())["jobs"]) if words else VERBS
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: {' '.join(['hpcfilter', *words])} ") and err == ""
    assert all(f"    {verb}" in out for verb in verbs)
    assert out == shown([*words, "--help"], capsys)


def test_only_the_first_rank_shows_it(monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert main([]) == 0 and capsys.readouterr().out == ""


def test_version(capsys):
    assert shown(["--version"], capsys) == f"hpcfilter {hpcfilter.__version__}\n"


@pytest.mark.parametrize(
    "name, one", list(every_verb()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_help_of_a_verb_has_an_example_that_can_be_read(name, one, capsys):
    out = shown([*name.split(), "--help"], capsys)
    examples = [
        line.strip()
        for line in out.replace("\\\n", "").splitlines()
        if line.startswith("  ") and "hpcfilter " in line
    ]
    calls = [line for line in examples if line.startswith(("hpcfilter ", "mpirun "))]
    assert calls and any(f"hpcfilter {name}" in call for call in calls), out
    for call in calls:
        words = shlex.split(call.partition("hpcfilter ")[2].partition(" > ")[0].partition("   ")[0])
        parser().parse_args(words)


def test_every_option_says_what_it_is():
    for name, one in every_verb():
        assert [action.dest for action in one._actions if not action.help] == [], name


def test_options_are_in_groups():
    """Nobody reads a list of twenty."""
    for name, one in every_verb():
        for group in one._action_groups:
            assert len(group._group_actions) <= 10, f"{name}, {group.title}"


@pytest.mark.parametrize("words", [["--help"], ["jobs", "--help"], ["train", "--help"]])
def test_help_is_cheap(words):
    """It imports neither what trains nor what reads data, nor pydantic. (numpy comes with the
    communicator.)"""
    code = (
        "import sys; from hpcfilter.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit: pass\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
