"""Paths: `~` and variables wherever a path is written, outputs that are refused before any work, and no
source that is ever destroyed."""

import os
import re
import tomllib
from pathlib import Path

import directives
import pytest

from hpcfilter.base.errors import InputError
from hpcfilter.base.options import path as path_option
from hpcfilter.base.paths import check_folder, check_output, expanded, kind
from hpcfilter.cli import main, parser
from hpcfilter.jobs import machine
from hpcfilter.jobs.machine import load_machine
from hpcfilter.jobs.plan import plan
from hpcfilter.jobs.render import render
from hpcfilter.train.config import load

# a machine of each -> the option of the log
SCHEDULERS = {"slurm-cpu": "--output", "summit": "-o", "polaris": "-o", "tuolumne": "--output",
              "sge-openmpi": "-o"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder, which $SCRATCH names too, and is the current one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(words, message, capsys):
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1, err


@pytest.mark.parametrize("text, path", [
    ("~", "HERE"), ("~/a b", "HERE/a b"), ("$SCRATCH/x", "HERE/x"), ("${SCRATCH}/x/", "HERE/x/"),
    ("${SCRATCH}y", "HEREy"), ("~/$SCRATCH", "HERE/HERE"), ("~root", os.path.expanduser("~root")),
    *((same, same) for same in ("", "a/~", "a~", "./~", "plain/../x", "costs$5", "$", "${}", "$(pwd)")),
])
def test_what_is_expanded(home, text, path):
    assert expanded(text) == path.replace("HERE", str(home))
    assert expanded(Path("~")) == str(home)


def test_a_variable_that_is_not_set(home):
    for text in ("$NOT_SET/x", "${NOT_SET}/x", "a/$NOT_SET", "a${NOT_SET}b"):
        with pytest.raises(ValueError, match="the variable NOT_SET is not set in this environment; "
                                             "set it, or write the whole path"):
            expanded(text)
    with pytest.raises(ValueError, match="no home folder is known for ~nobody-here"):
        expanded("~nobody-here/x")
    (home / "a$NOT_SET").mkdir()
    assert expanded("a$NOT_SET/x") == "a$NOT_SET/x", "it is the name of a folder"
    assert expanded(home / "a$NOT_SET" / "x") == f"{home}/a$NOT_SET/x"


@pytest.mark.parametrize("path", ["~/d.h5", "$SCRATCH/d.h5", "${SCRATCH}/d.h5"])
def test_a_run_finds_its_data_and_its_folder(home, digits, config, path):
    (home / "d.h5").symlink_to(digits)
    file = config(path, train={"epochs": 1})
    assert load(file).data.path == home / "d.h5"
    assert main(["train", str(file).replace(str(home), "~"), "--run-dir=~/run"]) == 0
    assert tomllib.loads((home / "run" / "config.toml").read_text())["data"]["path"] == str(home / "d.h5")
    assert not (home / "~").exists() and not list(home.glob("*SCRATCH*"))
    assert main(["score", "${SCRATCH}/run", "-o", "~/s.h5"]) == 0 and (home / "s.h5").exists()
    static = ["--set", "filter.policy=static", "--set", f"filter.selection={path.replace('d.h5', 'kept.h5')}"]
    assert main(["select", "$SCRATCH/s.h5", "--fraction", "0.1", "--output=~/kept.h5"]) == 0
    assert main(["train", str(file), "--run-dir", "$SCRATCH/second", *static]) == 0


def test_mistakes_name_the_variable_and_the_key(home, digits, config, capsys):
    file = config("$NOT_SET/d.h5")
    refused(["train", file, "--run-dir", "run"],
            "run0.toml, line 3: data.path: the variable NOT_SET is not set in this environment", capsys)
    file = config(digits)
    for words, message in ((["--set", "filter.policy=static", "--set", "filter.selection=$NOT_SET/s.h5"],
                            "filter.selection: the variable NOT_SET"),
                           (["--set", "job.workdir=$NOT_SET"], "job.workdir: the variable NOT_SET"),
                           (["--set", "job.log_dir=$NOT_SET/logs"], "job.log_dir: the variable NOT_SET"),
                           (["--set", "job.python=~nobody-here/python"],
                            "job.python: no home folder is known for ~nobody-here")):
        refused(["train", file, "--run-dir", "run", *words], message, capsys)
    refused(["train", file, "--run-dir=$NOT_SET/run"],
            "argument --run-dir: got '$NOT_SET/run', the variable NOT_SET is not set", capsys)
    refused(["train", file, "--run-dir="], "argument --run-dir: got '', expected a path", capsys)
    assert not list(home.glob("*run")) and not list(home.glob("*NOT_SET*"))


def test_every_option_that_is_a_path_is_expanded():
    """Those of which the help speaks of a file, a folder, a path, a table or a picture; `jobs stage` itself
    expands its DEST, on the node."""
    found, plain = 0, []

    def look(one, name):
        nonlocal found
        for action in one._actions:
            if hasattr(action, "choices") and isinstance(action.choices, dict):
                for verb, its in action.choices.items():
                    look(its, f"{name} {verb}".strip())
            elif re.search(r"\b(file|folder|folders|path|table|picture|draw|run config|page)\b",
                           action.help or "") and action.nargs != 0:
                found += 1
                if action.type is not path_option and not action.choices:
                    plain.append(f"{name} {action.dest}")

    look(parser(), "")
    assert found > 20
    assert [one for one in plain
            if not one.startswith("pack ") and not one.endswith(" settings")] == ["jobs stage dest"]


def test_folders_of_machines(home, monkeypatch):
    monkeypatch.setenv("HPCFILTER_MACHINES", "~/mine:$SCRATCH/others")
    assert machine.folders()[:2] == [home / "mine", home / "others"]
    monkeypatch.setenv("HPCFILTER_MACHINES", "$NOT_SET/mine")
    with pytest.raises(InputError, match="HPCFILTER_MACHINES: the variable NOT_SET is not set"):
        machine.folders()


def script(path, machine, **job):
    profile = load_machine(machine)
    nodes = profile.limits[0].nodes[0] if profile.limits else 1
    return render(plan(path, settings=[f"job.machine={machine}", f"job.nodes={nodes}",
                                       *(f"job.{key}={value}" for key, value in job.items())]))


def test_what_the_script_expands_stays_for_the_script(home, run):
    text = script(run, "slurm-cpu", venv="~/venv", source="$HOME/a $b/set up", python="~/bin/python",
                  **{"env.X": "$HOME and ${HOME}", "stage.method": "copy", "stage.folder": "/local/$USER"})
    assert ('. "${HOME-}/venv/bin/activate"' in text and '. "${HOME-}/a ${b-}/set up"' in text
            and 'stage="/local/${USER-}"/hpcfilter-' in text)
    assert 'export X="\\$HOME and ${HOME-}"' in text, "a value of the environment is no path"
    assert f"program=({home}/bin/python " in text


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("folder", ["/scratch/me/logs", "./logs", "my logs", "~/logs",
                                    "$SCRATCH/logs of/mine", "../logs", "Läufe"])
def test_log_folders(home, run, name, folder):
    text = script(run, name, log_dir=folder)
    _, found = directives.read(text)
    assert found[SCHEDULERS[name]].startswith(f"{expanded(folder)}/")


@pytest.mark.parametrize("folder", ["a%b", "it's", 'a"b', "a\\b", "a`b`", "a;b", "a#b", "host:logs", "{{id}}",
                                    "-logs", "..", "/", ""])
def test_log_folders_that_schedulers_cannot_take(home, run, folder):
    with pytest.raises(InputError, match="job.log_dir: ") as caught:
        plan(run, settings=["job.machine=slurm-cpu", f"job.log_dir={folder}"])
    assert "[" not in str(caught.value) and "pattern" not in str(caught.value)


def test_the_log_folder_is_made_when_the_job_is_submitted(home, run, submitted, capsys):
    assert main(["jobs", "submit", str(run), "--machine", "slurm-cpu",
                 "--set", "job.log_dir=~/far/my logs"]) == 0
    assert (home / "far" / "my logs").is_dir()
    (home / "file").touch()
    refused(["jobs", "submit", run, "--machine", "slurm-cpu", "--set", "job.log_dir=file/logs"],
            "job.log_dir: ", capsys)


def test_data_beside_the_run_config_is_pointed_at(home, digits, config, capsys):
    file = config("d.h5")
    (home / "conf").mkdir()
    file = file.rename(home / "conf" / "run.toml")
    (home / "conf" / "d.h5").symlink_to(digits)
    for words in (["train", file, "--run-dir", "run"], ["jobs", "check", file, "--machine", "slurm-cpu"]):
        refused(words, f"run.toml, line 3: data.path: no file {home}/d.h5; relative paths are taken from the "
                "current folder, and there is one " f'beside the run config: start in {home}/conf, '
                f'or write data.path = "{home}/conf/d.h5"', capsys)


def test_outputs(home):
    source, file = home / "source", home / "file"
    source.write_text("x")
    file.write_text("y")
    (home / "link").symlink_to(source)
    (home / "hard").hardlink_to(source)
    for path in ("new", file, "link of nothing"):
        check_output(path, [source, "missing"])
    for path, message in ((f"{home}/", "it is a folder"), ("new/", "it names a folder"),
                          ("no/new", "no folder no"), ("file/new", "file is a file"),
                          (source, "would overwrite"), ("link", "would overwrite"),
                          ("hard", "would overwrite"), ("./x/../source", "no folder")):
        with pytest.raises(InputError, match=message):
            check_output(path, [source])
    check_folder("new/run")
    check_folder(home)
    for path in (file, "file/run"):
        with pytest.raises(InputError,
                           match=f"cannot be the run folder: {file} is a file; give another --run-dir"):
            check_folder(path)


def test_no_command_destroys_what_it_reads(home, digits, config, capsys):
    """And nothing is written for a wrong output, whatever it would be."""
    file = config(home / "d.h5", train={"epochs": 1})
    (home / "d.h5").write_bytes(digits.read_bytes())
    assert main(["train", str(file), "--run-dir", "run"]) == 0 and main(["score", "run"]) == 0
    (home / "run" / "link.h5").symlink_to(home / "d.h5")
    own = home / "own" / "config.toml"
    own.parent.mkdir()
    own.write_text(file.read_text())
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    overwrite = "would overwrite"
    for words, message in (
            (["score", "run", "-o", "d.h5"], overwrite), (["score", "run", "-o", "run/link.h5"], overwrite),
            (["score", "run", "-o", "run/"], "it is a folder"),
            (["score", "run", "-o", "new/"], "it names a folder"),
            (["score", "run", "-o", "run/config.toml"], overwrite),
            (["score", "run", "-o", "run/checkpoints/epoch-00000/scores.h5"], overwrite),
            (["select", "run/scores.h5", "--fraction", "0.1", "-o", "./run/scores.h5"], overwrite),
            (["select", "run/scores.h5", "--fraction", "0.1", "-o", "nowhere/s.h5"], "no folder nowhere"),
            (["probe", "run", "--restart", "-o", "d.h5"], overwrite),
            (["probe", "run", "-o", "run"], "it is a folder"),
            (["probe", "run", "--selection", "run/scores.h5", "--restart", "-o", "run/scores.h5"], overwrite),
            (["report", "run", "-o", "run/metrics.jsonl"], overwrite),
            (["report", "run", "--text", "-o", "run/config.toml"], overwrite),
            (["report", "run", "-o", "new/"], "names a folder"),
            (["report", "run", "--picture", "run/"], "folder"),
            (["report", "run", "-o", "x.png", "--picture", "./x.png"], "expected two files"),
            (["train", "own/config.toml", "--run-dir", "own"],
             "would overwrite its run config own/config.toml"),
            (["train", file, "--run-dir", file], "is a file; give another --run-dir"),
            (["train", file, "--run-dir", "d.h5/run"], "d.h5 is a file")):
        refused(words, message, capsys)
        assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before, words
    assert main(["train", "run/config.toml", "--run-dir", "run",
                 "--resume"]) == 0, "what a run has left there is its own"


def test_an_archive_is_not_unpacked_over_itself(home, capsys):
    (home / "d.tar").write_bytes(b"x" * 1024)
    refused(["jobs", "stage", "d.tar", "./d.tar", "--method", "tar"], "would overwrite d.tar", capsys)


def test_kinds_of_files(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, head in (("empty", b""), ("png", b"\x89PNG\r\n"), ("text", b"a = 1"), ("zip", b"PK\x03\x04"),
                       ("h5", b"\x89HDF\r\n\x1a\n")):
        (tmp_path / name).write_bytes(head)
    found = {path.name: kind(path) for path in tmp_path.iterdir()}
    assert found == {"run": "a run folder", "pipe": "a pipe or a device", "empty": "an empty file",
                     "png": "a PNG image", "text": "", "zip": "a zip archive, as .npz files are",
                     "h5": "an HDF5 file"}
