"""Nothing that stands in a config, a profile or on the command line becomes a word, a command or a directive
of its own in a job script.

Hostile values in every text of the job, the machine and the command line: each is refused, or the script has
the same directives and the same words as with a harmless value; and bash, run with stand-ins for every
command, hands the value on as it is.
"""

import dataclasses
import itertools
import os
import random
import shlex
import subprocess
from pathlib import Path

import pydantic
import pytest
from conftest import TIMEOUT

from hpcfilter.base.errors import BrokenInvariant, InputError
from hpcfilter.base.paths import expanded
from hpcfilter.jobs.machine import Machine
from hpcfilter.jobs.plan import plan
from hpcfilter.jobs.render import render
from hpcfilter.jobs.schema import SHORT_VARIABLE, VARIABLE, Job

VALUES, MORE_VALUES = 1_000, 10_000  # here, and each night from another seed
EXECUTED, MORE_EXECUTED = 40, 300  # of those that are not refused
# one of each scheduler and launcher
MACHINES = ("frontier", "vista", "summit", "polaris", "abci", "tuolumne", "sge-openmpi")
PIECES = [
    "'", '"', "\\", "`", "$(touch pwned)", "`touch pwned`", "${IFS}", "$HOME", "${HOME}", "${",
    "}", "; touch pwned", "& touch pwned", "| touch pwned", "\n", "\r", "\n#SBATCH --wrap=x", "\n#BSUB -P x",
    "\ntouch pwned\n", "\t", "\0", " ", "  ", "#", "# ", "!", "!!", "*", "?", "~", "[a]", "{a,b}",
    "{{ 7 * 7 }}", "{% raw %}", "{#", "%", "%s", "%j", "-", "--", "--wrap=x", "=", ",", ":", "/", "..", "<",
    ">", ">> pwned", "(", ")", "((", "ä", "漢字", "\u202e", "\u2028", "\u00a0", "\ufeff", "\ud800", "😀",
    "\x1b[31m", "\x7f", "a", "b1", "name", "0", "$'\\n'", "EOF", "\\\n", "x" * 300, "y" * 65536,
]
# at a folder or a file that is not there
# paths in which the script expands ~ and variables
ON_THE_NODE = "job.stage.folder", "machine.storage", "job.container.image", "job.container.bind"
LONGEST = 1 << 16  # characters that Linux surely takes as one word, with those that stand around it
ENDS_EARLY = "job.workdir", "job.source", "job.venv", "job.conda_env", "job.signal"
# paths of this machine, in which variables are put in when the script is written
PUT_IN = "job.python", "job.log_dir", "job.stage.source"
OTHERWISE = "env", "modules", "directives", "launch", "signal", "wrap", "container"
TEXTS = [name for name, field in Job.model_fields.items()
         if "str" in str(field.annotation) and name not in OTHERWISE]


def _job(base, **changed):
    given = {**base.job.model_dump(exclude_unset=True), "walltime": "01:00:00"}
    return dataclasses.replace(base, job=Job.model_validate({**given, **changed}))


def _image(base, **changed):
    return _job(base, container={"kind": "apptainer", "image": "/image.sif", **changed})


def _machine(base, **changed):
    given = base.machine.model_dump(exclude_unset=True, exclude={"job", "limits"})
    machine = Machine.model_validate({**given, **changed})
    machine._path = base.machine._path
    return dataclasses.replace(base, machine=machine)


STAGED = {"method": "copy"}
PLACES = {  # place -> (function(plan, value) -> plan, a harmless value)
          **{f"job.{name}": (lambda base, value, name=name: _job(base, **{name: value}), "harmless")
             for name in TEXTS},
          "job.signal": (lambda base, value: _job(base, signal=value), "USR2"),
          "job.env": (lambda base, value: _job(base, env={"NOTED": value}), "harmless"),
          "job.env name": (lambda base, value: _job(base, env={value: "1"}), "harmless"),
          "job.modules": (lambda base, value: _job(base, modules=[value]), "harmless"),
          "job.directives": (lambda base, value: _job(base, directives=[value]), "--harmless"),
          "job.launch": (lambda base, value: _job(base, launch=[f"--option={value}"]), "harmless"),
          "job.wrap": (lambda base, value: _job(base, wrap=[value]), "harmless"),
          "job.container.image": (lambda base, value: _image(base, image=f"/{value}"), "harmless"),
          "job.container.bind": (lambda base, value: _image(base, bind=[value]), "/harmless"),
          "job.container.args": (lambda base, value: _image(base, args=[value]), "--harmless"),
          "job.directives value": (lambda base, value: _job(base, directives=[f"--comment={value}"]),
                                   "harmless"),
          "job.stage.folder": (lambda base, value: _job(base, stage={**STAGED, "folder": value}), "harmless"),
          "job.stage.source": (lambda base, value: _job(base, stage={"method": "tar", "source": f"/{value}"}),
                               "harmless"),
          "settings": (lambda base, value: dataclasses.replace(base, settings=(value,)), "harmless"),
          "run_dir": (lambda base, value: dataclasses.replace(base, run_dir=value), "harmless"),
          "config": (lambda base, value: dataclasses.replace(base, config_path=value), "harmless"),
          "machine.env": (lambda base, value: _machine(base, env={"NOTED": value}), "harmless"),
          "machine.launch": (lambda base, value: _machine(base, launch={"always": [f"--option={value}"]}),
                             "harmless"),
          "machine.directives":
          (lambda base, value: _machine(base, directives={"always": [f"--option={value}"]}), "harmless"),
          "machine.constraints": (lambda base, value: _machine(base, constraints=[value]), "harmless"),
          "machine.storage": (lambda base, value: _job(_machine(base, node={"cpus": 99, "storage": value}),
                                                       stage=STAGED), "harmless"),
          "machine.visibility": (lambda base, value: _machine(base, gpu_visibility=value),
                                 "HIP_VISIBLE_DEVICES=0"),
          "machine.about": (lambda base, value: _machine(base, about=value), "harmless"),}


@pytest.fixture(scope="module")
def bases(digits, tmp_path_factory):
    """A plan for each of the schedulers."""
    path = tmp_path_factory.mktemp("injection") / "run.toml"
    path.write_text(f'[data]\npath = "{digits}"\n[job]\naccount = "abc"\nnodes = 10\npython = "python"\n')
    return {name: plan(path, "runs/x", [f"job.machine={name}"]) for name in MACHINES}


def structure(script):
    """What a scheduler and a shell see: the flags of the directives, and for each line the number of
    its words and operators."""
    directives, counts = [], []
    for line in script.split("\n"):
        if line.startswith(("#SBATCH", "#BSUB", "#PBS", "# flux:", "#$ ")):
            directives.append((line.split()[1].partition("=")[0], len(line.split())))
        elif line.startswith("#"):
            counts.append("comment")
        else:
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.commenters, lexer.whitespace_split = "", True
            try:
                counts.append(len(list(lexer)))
            except ValueError:
                # of a line of ours that goes on, or of an injection: the harmless script decides
                counts.append("open quote")
    return directives, counts


def hostile(seed):
    """(machine, place, value) of one attack; mostly a few pieces."""
    draw = random.Random(seed)
    place, name = draw.choice(list(PLACES)), draw.choice(MACHINES)
    return name, place, "".join(draw.choices(PIECES, k=draw.choice([1, 1, 1, 2, 2, 3, 5, 9])))


def script_of(base, place, value):
    """The script with the value in its place, or None when it is refused."""
    try:
        return render(PLACES[place][0](base, value))
    except (pydantic.ValidationError, InputError, BrokenInvariant):
        return None


def test_a_thousand_values_change_no_structure(bases):
    change_no_structure(bases, VALUES, "")


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_ten_thousand_values_change_no_structure(bases, pytestconfig):
    change_no_structure(bases, MORE_VALUES, pytestconfig.getoption("seed"))


def change_no_structure(bases, values, day):
    harmless = {(name, place): structure(script_of(base, place, PLACES[place][1]))
                for name, base in bases.items() for place in PLACES}
    refused = 0
    for number in range(values):
        name, place, value = hostile(f"{day} {number}")
        script = script_of(bases[name], place, value)
        if script is None:
            refused += 1
            continue
        assert (script.isprintable() or set(script) - {"\n"}
                == {letter for letter in script if letter.isprintable()}), f"{place} of {name}: {value!r}"
        expected = harmless[name, place]
        # words of the user's choice
        if place in ("job.directives", "job.log_dir") or (place == "job.constraint" and name == "summit"):
            assert (len(structure(script)[0]) == len(expected[0])
                    and structure(script)[1] == expected[1]), f"{place} of {name}: {value!r}"
        else:
            assert structure(script) == expected, f"{place} of {name}: {value!r}"
    assert values // 4 < refused < values * 0.9, (f"{refused} of {values} values refused: "
                                                  "the attack is not what it was")


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """A folder with every command that the scripts call; each notes its words and does nothing."""
    folder = tmp_path_factory.mktemp("bin")
    note = folder / "note"
    note.write_text('#!/bin/bash\nprintf "%s\\0" "${0##*/}" "$@" "NOTED=${NOTED-}" > "$CALLS/$$"\n')
    note.chmod(0o755)
    for name in ("srun ibrun sbcast scontrol jsrun jskill brequeue mpiexec mpirun qsub flux module conda "
                 "python harmless date mkdir rm cat cut env grep sort tr touch sleep hostname sh id").split():
        (folder / name).symlink_to(note)
    return folder


def calls(script, stand_ins, folder):
    """The commands that bash runs for a script: a list of lists of words."""
    (folder / "calls").mkdir(parents=True)
    (folder / "job.sh").write_text(script)
    job = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n", "LSB_JOBID": "1", "PBS_JOBID": "1", "JOB_ID": "1",
           "PBS_NODEFILE": "/dev/null", "USER": "u", "HOME": "/h"}
    subprocess.run(["/bin/bash", "job.sh"], cwd=folder,
                   env={"PATH": str(stand_ins), "CALLS": str(folder / "calls"), **job}, timeout=TIMEOUT,
                   capture_output=True, check=False)
    assert {path.name for path in folder.iterdir()} == {"job.sh", "calls"}, (
        f"something was written: {list(folder.iterdir())}")
    return sorted(path.read_bytes().decode().split("\0")[:-1] for path in (folder / "calls").iterdir())


def test_bash_hands_the_values_on_as_they_are(bases, stand_ins, tmp_path):
    handed_on_as_they_are(bases, stand_ins, tmp_path, EXECUTED, "bash")


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_bash_hands_many_values_on_as_they_are(bases, stand_ins, tmp_path, pytestconfig):
    handed_on_as_they_are(bases, stand_ins, tmp_path, MORE_EXECUTED, f"bash {pytestconfig.getoption('seed')}")


def handed_on_as_they_are(bases, stand_ins, tmp_path, values, day):
    base = {name: dataclasses.replace(made, job=made.job.model_copy(update={"workdir": "."}))
            for name, made in bases.items()}
    expected, executed = {}, 0
    for number in itertools.count():
        if executed == values:
            break
        name, place, value = hostile(f"{day} {number}")
        script = script_of(base[name], place, value)
        path = f"/{value}" if place == "job.stage.source" else value
        other = place == "job.stage.source" and str(Path(path)) != path
        other = other or (place in ON_THE_NODE and (SHORT_VARIABLE.search(value) or value.startswith("~")))
        if (script is None or len(value) > LONGEST or VARIABLE.search(value) or place in ENDS_EARLY or other
                or (place in PUT_IN and expanded(path) != path)):
            continue  # bash would expand what it is to expand; a path is put into its shortest form
        executed += 1
        if (name, place) not in expected:
            expected[name, place] = calls(script_of(base[name], place, PLACES[place][1]), stand_ins,
                                          tmp_path / f"harmless{number}")
        wanted = sorted([word.replace(PLACES[place][1], value) for word in call]
                        for call in expected[name, place])
        found = calls(script, stand_ins, tmp_path / str(number))
        if place == "job.python":  # the value is the program
            found, wanted = ([call for call in found if call[0] != "harmless"],
                             [call for call in wanted if call[0] != value])
        assert found == wanted, f"{place} of {name}: {value!r}"


def test_words_of_the_command_line(bases, stand_ins, digits, tmp_path, monkeypatch):
    """From end to end: a hostile run folder, config path and setting reach the program as single words."""
    monkeypatch.chdir(tmp_path)
    folder = Path("it's; touch pwned $(touch pwned)")
    folder.mkdir()
    path = folder / "run `touch pwned`.toml"
    path.write_text(f'[data]\npath = "{digits}"\n')
    made = plan(path, f"{folder}/run", ["job.machine=slurm-cpu", "seed=3", "job.workdir=" + str(tmp_path)])
    (launch,) = [call for call in calls(render(made), stand_ins, tmp_path / "job") if call[0] == "srun"]
    assert launch[-10:-1] == ["train", str(tmp_path / path), "--run-dir", f"{tmp_path}/{folder}/run",
                              "--resume", "--set", "seed=3", "--set", f"data.path={digits}"]
    assert not os.path.exists("pwned")
