"""Apptainer, Shifter, podman-hpc and the Container Engine of srun --environment: the inside is a folder, the
image, whose bin/ comes first on PATH.

What the real ones keep from the inside is kept from it here: variables (podman-hpc: all that are not named;
the others: PATH and LD_LIBRARY_PATH), the folder one stands in, and paths outside of what is bound.
An image is found as $FAKE_IMAGES/NAME-TAG, or as a path.
"""

import fnmatch
import os
import re
import sys
import tomllib
from pathlib import Path

from table import Refused

BIND = r"/[^:,]*:/[^:,]+(:ro)?"
GIVEN = "FAKE_", "OMPI_ALLOW"  # what a fake of a scheduler needs inside, of which the real ones know nothing
SYSTEM = "/usr", "/bin", "/lib", "/lib64", "/etc", "/dev", "/proc", "/opt"  # that an image has of its own
APPTAINER = {"--bind": BIND, "--nv": None, "--rocm": None, "--env": r"\w+=.*",
             "--fakeroot": None}
PODMAN = {"--rm": None, "--gpu": None, "--network": "host", "--ipc": "host", "--volume": BIND,
          "--workdir": "/.*", "--env": r"\w+\*?|\w+=.*", "--openmpi-pmi2": None}
SHIFTER = {"--image": r"[\w./:-]+", "--volume": BIND, "--env": r"\w+=.*", "--module": r"[\w,-]+"}


def apptainer(words):
    if words[:1] != ["exec"]:
        raise Refused(f"expected exec, got {words[:1]}")
    given, rest = several(words[1:], APPTAINER)
    bound = binds(given.get("--bind", []))
    environment = {**os.environ, **named(given.get("--env", []))}
    enter(rest[0], rest[1:], environment, bound, os.getcwd())


def shifter(words):
    given, rest = several(words, SHIFTER)
    environment = {**os.environ, **named(given.get("--env", []))}
    # the site has bound its file systems
    enter(given["--image"][0], rest, environment, [*binds(given.get("--volume", [])), "/"], os.getcwd())


def podman_hpc(words):
    if words[:1] != ["run"]:
        raise Refused(f"expected run, got {words[:1]}")
    given, rest = several(words[1:], PODMAN)
    wanted = [word for word in given.get("--env", []) if "=" not in word]
    environment = {name: value for name, value in os.environ.items()
                   if name.startswith(GIVEN) or any(fnmatch.fnmatchcase(name, word) for word in wanted)}
    environment |= named(given.get("--env", []))
    enter(rest[0], rest[1:], environment, binds(given.get("--volume", [])), given.get("--workdir", ["/"])[0])


def environment_file(path, program):
    """What srun --environment=FILE does for one task."""
    table = tomllib.loads(Path(path).read_text())
    enter(table["image"], program, {**os.environ, **table.get("env", {})}, binds(table.get("mounts", [])),
          table.get("workdir", "/"))


def several(words, table):
    """As directives.options, but each option may come again. Returns ({flag: values}, the rest)."""
    found, rest = {}, list(words)
    while rest and rest[0].startswith("-"):
        flag, equals, value = rest.pop(0).partition("=")
        if flag not in table:
            raise Refused(f"unknown flag: {flag}")
        if table[flag] is None:
            value = True
        elif not equals:
            value = rest.pop(0)
        assert value is True or re.fullmatch(table[flag], value), f"{flag}: malformed value {value!r}"
        found.setdefault(flag, []).append(value)
    return found, rest


def named(words):
    return dict(word.split("=", 1) for word in words if "=" in word)


def binds(words):
    """The folders that the inside has under their own names. Raises Refused for one that is not there."""
    for word in words:
        if not Path(word.split(":")[0]).exists():
            raise Refused(f"mount source {word.split(':')[0]} doesn't exist")
    return [word.split(":")[1] for word in words]


def enter(image, program, environment, bound, folder):
    """Become the program inside of the image. Raises Refused for what it would not find there."""
    image = Path(os.environ.get("FAKE_IMAGES", ""), image.replace(":", "-"))  # a colon would part PATH
    if not image.is_dir():
        raise Refused(f"could not open image {image}: no such file or directory")
    if not program:
        raise Refused("no program")

    def seen(path):
        return any(Path(path).is_relative_to(place) for place in [image, *bound, *SYSTEM])

    for word in program[1:]:
        path = word.partition("=")[2] or word
        if path.startswith("/") and not seen(path):
            raise Refused(f"{path}: No such file or directory")
    if "/" in program[0] and not seen(program[0]):
        raise Refused(f"exec: {program[0]}: no such file or directory")
    os.chdir(folder if seen(folder) else "/")
    environment = {**environment, "PATH": f"{image}/bin:/usr/bin:/bin"}
    environment.pop("LD_LIBRARY_PATH", None)
    os.execvpe(program[0], program, environment)


if __name__ == "__main__":
    environment_file(sys.argv[1], sys.argv[2:])
