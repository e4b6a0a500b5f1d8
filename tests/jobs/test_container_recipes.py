"""jobs/containers: the recipes of images. There is no registry to build from here; what can be checked
without one is."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpcfilter.jobs.machine import files

CHECKOUT = Path(__file__).parents[2]
SECTIONS = {"files", "post", "test", "runscript", "environment", "labels", "help", "setup", "arguments"}
INSTRUCTIONS = {"ARG", "FROM", "COPY", "ENV", "RUN", "WORKDIR", "LABEL"}


@pytest.fixture
def definition():
    """(header of the apptainer definition, its sections as lists of lines)."""
    header, sections, section = {}, {}, None
    for line in (files() / "containers" / "hpcfilter.def").read_text().splitlines():
        if line.startswith("%"):
            section = sections.setdefault(line[1:].strip(), [])
        elif section is not None:
            section += [line.strip()] if line.strip() else []
        elif line and not line.startswith("#"):
            name, _, value = line.partition(": ")
            header[name] = value
    return header, sections


@pytest.fixture
def dockerfile():
    """[(instruction, the rest of its line)]."""
    lines = (files() / "containers" / "Dockerfile").read_text().splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#")]


def pairs(dockerfile):
    """{source: place} of what a Dockerfile copies."""
    copied = {}
    for name, rest in dockerfile:
        if name == "COPY":
            *sources, place = shlex.split(rest)
            copied |= {source: f"{place}{source}" if place.endswith("/") else place for source in sources}
    return copied


def installed(commands):
    """What pip installs, of shell commands."""
    (command,) = [line for line in commands if " pip install " in f" {line} "]
    return shlex.split(command)[4:]


def test_both_recipes_say_the_same(definition, dockerfile):
    header, sections = definition
    assert header["Bootstrap"] == "docker" and set(sections) <= SECTIONS
    assert {name for name, _ in dockerfile} <= INSTRUCTIONS
    assert f"BASE={header['From']}" in dict(dockerfile)["ARG"] and dict(dockerfile)["FROM"] == "${BASE}"
    assert re.fullmatch(r"[a-z]+/pytorch:[\w.-]+", header["From"])
    assert dict(map(str.split, sections["files"])) == pairs(dockerfile)
    commands = [rest for name, rest in dockerfile if name == "RUN"]
    assert {"mpi4py", "h5py", "/opt/hpcfilter"} <= set(installed(sections["post"]))
    assert installed(sections["post"]) == installed(commands)


def test_the_shell_understands_them(definition, dockerfile, tmp_path):
    scripts = {name: "\n".join(definition[1][name]) for name in ("post", "test", "runscript")}
    scripts["run"] = "\n".join(rest for name, rest in dockerfile if name == "RUN")
    for name, text in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        words = (["shellcheck", tmp_path / name] if shutil.which("shellcheck")
                 else ["sh", "-n", tmp_path / name])
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_they_copy_is_enough_to_install(dockerfile, tmp_path):
    """The recipes go into the installation, so that a site has them too."""
    if not (CHECKOUT / "setup.py").exists():
        pytest.skip("no checkout: the recipes are built from one")
    for source, there in pairs(dockerfile).items():
        place = tmp_path / there.removeprefix("/opt/")
        place.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (CHECKOUT / source).is_dir() else shutil.copy
        copy(CHECKOUT / source, place)
    words = ["-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--target",
             tmp_path / "site", tmp_path / "hpcfilter"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    inside = tmp_path / "site" / "hpcfilter" / "jobs" / "files" / "containers"
    assert {path.name for path in inside.iterdir()} == {"hpcfilter.def", "Dockerfile", "README.md"}
