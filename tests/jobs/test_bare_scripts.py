"""Parts of the rendered scripts under stand-ins of a line each: where the ranks meet, modules, and a
scheduler that refuses to go on."""

import os
import subprocess
from pathlib import Path

import pytest
from fakes import toml

from hpcfilter.cli import main
from hpcfilter.jobs.machine import files


@pytest.fixture
def render(tmp_path, capsys, monkeypatch):
    """render(machine, **keys of [job]) -> the script, to be run in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    Path("data.h5").touch()
    Path("run.toml").write_text('[data]\npath = "data.h5"\n[filter]\npolicy = "kakurenbo"\n')

    def call(machine, **keys):
        keys = {"account": "abc123", "python": "python", "nodes": 10 if machine == "polaris" else 2, **keys}
        settings = [word for key, value in keys.items() for word in ("--set", f"job.{key}={toml(value)}")]
        code = main(["jobs", "render", "run.toml", "--machine", machine, "--run-dir", "run", *settings])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return call


def bash(text, folder, commands=(), **variables):
    """Run text by bash. commands: name -> line of a program on PATH. Returns CompletedProcess, with text."""
    (folder / "bin").mkdir(exist_ok=True)
    for name, line in dict(commands).items():
        (folder / "bin" / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / "bin" / name).chmod(0o755)
    environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": "/home/me", **variables}
    (folder / "try.sh").write_text(text)
    return subprocess.run(["bash", "try.sh"], capture_output=True, text=True, timeout=60, env=environment,
                          check=False)


def hosts(folder, *lines):
    path = folder / "hosts"
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


FLUX = "flux() { echo '%s'; }\n"
MEETING = {  # machine, hosts of the file, what the shell has -> the first host
    "slurm": ("alps", (), 'scontrol() { printf "%s\\n" nid7 nid8; }\n', "nid7"),
    "pbs": ("polaris", ("x3001", "x3001", "x3002"), "", "x3001"),
    "lsf with a batch host": ("summit", ("batch4", "h7", "h7", "h8", "h8"), "", "h7"),
    "lsf without one": ("lassen", ("h7", "h7", "h8", "h8"), "", "h7"),
    "flux, a list": ("tuolumne", (), FLUX % "tuolumne[1001,1005-1008],x3", "tuolumne1001"),
    "flux, a range": ("tuolumne", (), FLUX % "node[007-012]", "node007"),
    "flux, one": ("tuolumne", (), FLUX % "node7", "node7"),
    "flux, two": ("tuolumne", (), FLUX % "a7,b[1-3]", "a7"),
}


@pytest.mark.parametrize("case", MEETING)
def test_ranks_meet_on_the_first_host(case, render, tmp_path):
    machine, lines, shell, expected = MEETING[case]
    nodes = {"nodes": 10} if machine == "polaris" else {}
    part = render(machine, **nodes).partition("# Where ranks")[2].partition("mkdir -p")[0]
    file = hosts(tmp_path, *lines)

    def meet(job):
        text = f'set -u\n{shell}HPCFILTER_JOB={job}\n#{part}env | grep ^MASTER_'
        done = bash(text, tmp_path, PBS_NODEFILE=file, LSB_DJOB_HOSTFILE=file, SLURM_JOB_NODELIST="nid[7-8]")
        assert done.returncode == 0 and not done.stderr, done.stderr
        found = dict(line.split("=") for line in done.stdout.splitlines())
        assert found["MASTER_ADDR"] == expected
        return int(found["MASTER_PORT"])

    ports = [meet(job) for job in ("123", "124", "123_4", "123.server", "ƒ2A5", "123")]
    assert ports[0] == ports[-1] and len(set(ports)) == 5, "it is the job's own, and has it again"
    assert all(20000 <= port < 32000 for port in ports)


def test_a_template_that_names_no_first_host_takes_that_of_the_script(render, tmp_path, monkeypatch):
    (tmp_path / "machines").mkdir()
    monkeypatch.setenv("HPCFILTER_MACHINES", str(tmp_path / "machines"))
    profile = (files() / "machines" / "slurm-cpu.toml").read_text()
    (tmp_path / "machines" / "mine.toml").write_text(f'template = "mine.sh.j2"\n{profile}')
    (tmp_path / "machines" / "mine.sh.j2").write_text('{% extends "job.sh.j2" %}\n')
    assert "MASTER_ADDR=$(hostname)\n" in render("mine")
    assert "MASTER_ADDR=127.0.0.1\n" in render("local", nodes=1, ranks_per_node=1, cpus_per_rank=1)


def test_the_users_own_meeting_place_stays(render):
    script = render("alps", env={"MASTER_ADDR": "here", "MASTER_PORT": "7"})
    assert "MASTER_ADDR=$(" not in script and "MASTER_PORT=$(" not in script
    assert "export MASTER_ADDR=here\n" in script


@pytest.mark.parametrize("variables, expected", [
    ({}, ""), ({"LD_LIBRARY_PATH": "/a"}, "/a"), ({"CRAY_LD_LIBRARY_PATH": "/b"}, "/b"),
    ({"LD_LIBRARY_PATH": "/a:/c", "CRAY_LD_LIBRARY_PATH": "/b"}, "/b:/a:/c")])
def test_a_list_of_folders_has_no_empty_entry(render, tmp_path, variables, expected):
    """It would be the current folder, and libraries be looked for there."""
    script = render("frontier", env={"PATH": "/mine:${PATH}", "OTHER": ":${UNSET}:", "MY_PATH": "${NONE}"})
    lines = [line for line in script.splitlines() if "LD_LIBRARY_PATH=" in line]
    text = "set -uo pipefail\n" + "\n".join(lines) + '\nprintf %s "$LD_LIBRARY_PATH"'
    done = bash(text, tmp_path, **variables)
    assert done.stdout == expected and not done.stderr and done.returncode == 0
    assert "\nPATH=${PATH#:} &&" in script and "OTHER#" not in script and "MY_PATH#" not in script


def test_a_module_command_that_reads_unset_variables_ends_no_script(render, tmp_path):
    (line,) = [line for line in render("alps").splitlines() if "module list" in line]
    shell = 'set -u; module() { echo "$NOT_SET$1"; }; '
    done = bash(f"{shell}{line}\necho then", tmp_path)
    assert done.stdout == "list\nthen\n" and done.returncode == 0 and not done.stderr


@pytest.mark.parametrize("machine, status, expected", [("tsubame4", 99, 1), ("sge-openmpi", 100, 1),
                                                       ("tsubame4", 98, 98), ("alps", 99, 99)])
def test_an_exit_code_of_a_rank_means_nothing_else_to_sge(render, tmp_path, machine, status, expected):
    """By 99 a script asks SGE to queue its job again, by 100 to hold it."""
    script = render(machine)
    part = script.partition("nothing trained")[2].partition("\nfi\n")[2]
    assert bash(f"run=run status={status}\n{part}", tmp_path).returncode == expected


@pytest.mark.parametrize("requeue, word", [(True, "y"), (False, "n")])
def test_pbs_may_start_a_job_again_that_may_be_requeued(render, requeue, word):
    assert f"\n#PBS -r {word}\n" in render("polaris", requeue=requeue)


@pytest.mark.parametrize("nodes, seconds", [(1, 120), (1000, 920)])
def test_the_more_ranks_the_longer_they_wait_for_each_other(render, nodes, seconds):
    keys = {"nodes": nodes, "walltime": "02:00:00"}
    assert f"\nexport HPCFILTER_MEET_SECONDS={seconds}\n" in render("frontier", mpi4py=False, **keys)
    assert "MEET_SECONDS" not in render("frontier", **keys)


def test_modules_in_the_words_of_module(render, tmp_path):
    modules = ["purge", "use $SITE/modules", "use ~/own", "load gcc/13", "swap PrgEnv-cray PrgEnv-gnu",
               "unload x", "rocm/7.1.1", "it's odd"]
    lines = [line for line in render("frontier", modules=modules).splitlines() if line.startswith("module ")]
    said = bash('module() { printf "%s|" "$@"; echo; }\n' + "\n".join(lines), tmp_path, SITE="/s i").stdout
    assert said.splitlines() == ["purge|", "use|/s i/modules|", "use|/home/me/own|", "load|gcc/13|",
                                 "swap|PrgEnv-cray|PrgEnv-gnu|", "unload|x|", "load|rocm/7.1.1|",
                                 "load|it's odd|"]
    assert all(line.endswith(" || exit") for line in lines)


@pytest.mark.parametrize("entry", ["use", "use a b", "purge x", "swap a", "unload"])
def test_a_module_line_that_is_none(entry, render, capsys):
    settings = ["--set", f'job.modules=["{entry}"]', "--set", "job.account=a"]
    render("frontier")
    assert main(["jobs", "render", "run.toml", "--machine", "frontier", *settings]) == 2
    err = capsys.readouterr().err
    assert "job.modules" in err and f"expected behind {entry.split()[0]} " in err, err
    assert err.count("\n") == 1, err


SAVED = "touch run/REQUEUE"
REFUSING = {  # machine -> programs; what submits the script by hand
    "alps": ({"srun": SAVED, "scontrol": "[ $1 = show ] && echo nid7"}, "sbatch run/job.sh"),
    "summit": ({"jsrun": SAVED, "brequeue": "exit 255"}, "bsub run/job.sh"),
    "polaris": ({"module": "true", "mpiexec": SAVED,
                 "qsub": "echo 'qsub: would exceed the limit' >&2; exit 38"},
                "qsub run/job.sh"),
    "tuolumne": ({"module": "true",
                  "flux": f'[ "$1" = run ] && {SAVED} || {{ [ "$1" = getattr ] && echo f7; }}'},
                 "flux batch run/job.sh"),
}


@pytest.mark.parametrize("machine", REFUSING)
def test_a_scheduler_that_refuses_to_go_on_does_not_fail_the_job(machine, render, tmp_path):
    """All is saved, so the exit code is 0, and the log says what to do."""
    programs, by_hand = REFUSING[machine]
    file = hosts(tmp_path, "x1")
    done = bash(render(machine), tmp_path, programs, SLURM_JOB_ID="7", SLURM_JOB_NODELIST="nid7",
                PBS_JOBID="7.s", PBS_NODEFILE=file, LSB_JOBID="7", LSB_DJOB_HOSTFILE=file, USER="me")
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert "refuses to go on by itself" in last and "all is saved" in last
    assert last.endswith(f"to go on: cd {tmp_path} && {by_hand}")


def test_a_task_of_an_array_goes_on_alone(run, tmp_path, monkeypatch, capsys):
    words = ["--machine", "alps", "--repeats", "3", "--dry-run"]
    assert main(["jobs", "submit", str(run), *words]) == 0
    script = capsys.readouterr().out
    assert 'by_hand "sbatch --array=${SLURM_ARRAY_TASK_ID-} runs/hpcfilter/nodes-1/job.sh"' in script
