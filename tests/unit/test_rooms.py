"""The plan of the house: imports go down only, never sideways between rooms; each part that needs
care has one speaker."""

import ast
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import hpcfilter

PACKAGE = Path(hpcfilter.__file__).parent
FLOORS = (  # districts: who stands higher may import who stands lower
    {"base"},
    {"comm", "record"},
    {"select", "data"},
    {"pack"},
    {"train"},
    {"jobs"},
    {"filter", "study"},
    {"cli", "__init__"},
    {"__main__"},
)
FLOOR = {district: number for number, districts in enumerate(FLOORS) for district in districts}
# a file of this name says which keys the tables of its district have; it imports `base` and its like
# alone, so that anyone may
SCHEMA = "schema"
SPEAKERS = {  # module -> the only districts, or rooms of them, that import it
            "mpi4py": {"comm"},
            "horovod": {"train/exchange"},
            "h5py": {"data"},
            "subprocess": {"jobs", "pack"},
            "torch": {"comm", "select/scores", "select/seen", "data/resident", "data/pixels", "train",
                      "study/landscape", "filter", "jobs/doctor"},}
FILES = sorted(PACKAGE.rglob("*.py"))
EXPORTED = ("lowest", "world", "Filter", "Score", "Selection", "__version__")


def places(path):
    """District, and room within it: "train", "train/optim"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0], "/".join(parts[:2])


def imported(path):
    """Dotted names of everything that a file imports, at any depth, as ("hpcfilter",
    "train", "optim", ...)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (tuple(name.split(".")) for name in names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    district, room = places(path)
    for top, *rest in imported(path):
        if top == "hpcfilter" and rest[0] != district and rest[0] not in EXPORTED and SCHEMA not in rest:
            assert FLOOR[rest[0]] < FLOOR[district], (f"{district} (floor {FLOOR[district]}) imports "
                                                      f"{'.'.join(rest)} (floor {FLOOR[rest[0]]})")
        assert {district, room} & SPEAKERS.get(top, {district}), (f"{room} imports {top}, "
                                                                  f"which only {SPEAKERS[top]} may")


def test_schemas_import_the_foundation_alone():
    for path in (path for path in FILES if path.stem == SCHEMA):
        assert {rest[0] for top, *rest in imported(path)
                if top == "hpcfilter" and SCHEMA not in rest} <= {"base"}, path


def test_rooms_of_a_district_do_not_import_each_other_in_a_circle():
    arrows, rooms = {}, {places(path)[1] for path in FILES} - set(FLOOR)
    for path in FILES:
        _, room = places(path)
        for top, *rest in imported(path):
            other = "/".join(rest[:2])
            if top == "hpcfilter" and SCHEMA not in rest and other != room and other in rooms:
                arrows.setdefault(room, set()).add(other)
    TopologicalSorter(arrows).prepare()  # raises CycleError


def test_every_folder_is_a_package():
    """An installation leaves out a folder that is none."""
    folders = {path.parent for path in FILES}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_every_district_is_in_the_plan():
    assert {places(path)[0] for path in FILES} == set(FLOOR)


def test_files_are_small():
    others = [path for folder in ("tests", "benchmarks", "jobs")
              for path in (PACKAGE.parent / folder).rglob("*.py")]
    assert {str(path): n
            for path in [*FILES, *others] if (n := len(path.read_text().splitlines())) > 300} == {}


@pytest.mark.parametrize("module", ["hpcfilter.cli", "hpcfilter.study.report", "hpcfilter.jobs.commands",
                                    "hpcfilter.study.offline.select", "hpcfilter.select.policies",
                                    "hpcfilter.train.checks", "hpcfilter.train.models",
                                    "hpcfilter.select.scores", "hpcfilter.train.checkpoint"])
def test_login_node_modules_need_neither_torch_nor_mpi(module):
    code = f"import sys, {module}; print([m for m in ('torch', 'mpi4py', 'horovod') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_installing_pulls_neither_torch_nor_horovod():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    assert not [name for name in project["dependencies"] if name.startswith(("torch", "horovod", "mpi4py"))]
    assert {"torch", "horovod", "mpi"} <= set(project["optional-dependencies"])
