"""The plan of the house: imports go down only, never sideways between rooms; each part that needs care has one speaker."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hpcfilter

PACKAGE = Path(hpcfilter.__file__).parent
FLOORS = (
    {"errors", "names", "randomness", "pulse", "spans"},  # foundation
    {"faults", "notice", "energy", "paths", "complaints", "own"},
    {"settings", "options"},
    {"job"},
    {"config", "machine", "comm", "record", "watchdog"},
    {"data", "threshold", "models", "kept"},
    {"scores", "policies", "pack"},
    {"sampler", "checkpoint", "optim", "predict", "resident", "histogram"},
    {"checks"},
    {"network"},
    {"train", "static", "landscape", "launch", "report", "filter", "doctor"},
    {"cli", "__init__"},  # roof
    {"__main__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
SPEAKERS = {  # module -> the only rooms that import it
    "mpi4py": {"comm"},
    "horovod": {"comm"},
    "h5py": {"data"},
    "subprocess": {"launch", "pack"},
    "torch": {"comm", "models", "scores", "checkpoint", "optim", "network", "resident", "train", "landscape", "filter", "doctor"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imported(path):
    """(top-level module, second part) of everything a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            yield top, rest.partition(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    room = room_of(path)
    for top, part in imported(path):
        if top == "hpcfilter" and part != room and part not in ("lowest", "world", "Filter", "__version__"):
            assert FLOOR[part] < FLOOR[room], f"{room} (floor {FLOOR[room]}) imports {part} (floor {FLOOR[part]})"
        assert room in SPEAKERS.get(top, {room}), f"{room} imports {top}, which only {SPEAKERS[top]} may"


def test_every_room_is_in_the_plan():
    assert {room_of(path) for path in FILES} == set(FLOOR)


def test_files_are_small():
    others = [path for folder in ("tests", "benchmarks", "jobs") for path in (PACKAGE.parent / folder).rglob("*.py")]
    assert {str(path): n for path in [*FILES, *others] if (n := len(path.read_text().splitlines())) > 300} == {}


@pytest.mark.parametrize("module", ["hpcfilter.cli", "hpcfilter.report", "hpcfilter.launch.verbs", "hpcfilter.static.select", "hpcfilter.policies",
                                    "hpcfilter.checks", "hpcfilter.models", "hpcfilter.scores", "hpcfilter.checkpoint"])
def test_login_node_modules_need_neither_torch_nor_mpi(module):
    code = f"import sys, {module}; print([m for m in ('torch', 'mpi4py', 'horovod') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_installing_pulls_neither_torch_nor_horovod():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    assert not [name for name in project["dependencies"] if name.startswith(("torch", "horovod", "mpi4py"))]
    assert {"torch", "horovod", "mpi"} <= set(project["optional-dependencies"])


def test_the_verbs():
    from hpcfilter.cli import _parser

    verbs = next(a for a in _parser()._actions if hasattr(a, "choices") and a.choices).choices
    assert set(verbs) == {"pack", "train", "score", "select", "probe", "report", "jobs", "doctor"}
