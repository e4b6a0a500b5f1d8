"""Faults on purpose: the variable, the points, and that they cost nothing when it is not set."""

import ast
import errno
import inspect

import numpy as np
import pytest
import torch

from hpcfilter.base.alive import faults
from hpcfilter.base.errors import InputError


@pytest.fixture
def armed(monkeypatch):
    """arm(text, rank=0), undone after the test."""
    monkeypatch.setattr(faults, "point", faults.point)
    return lambda text, rank=0: faults.arm(text, rank)


def test_without_the_variable_a_point_is_an_empty_function():
    point = ast.parse(inspect.getsource(faults.point)).body[0]
    assert len(point.body) == 1 and ast.get_docstring(point), "a docstring and nothing else"


def test_the_nth_pass_of_the_point_on_the_rank(armed):
    armed("rank=1,point=after_rename,n=3,kind=exception", rank=1)
    for _ in range(2):
        faults.point("after_rename", "x")
        faults.point("before_rename", "x")
    with pytest.raises(faults.InjectedFault, match="rank 1, after_rename, pass 3"):
        faults.point("after_rename", "x")
    faults.point("after_rename", "x")  # once only


def test_another_rank_is_left_alone(armed):
    before = faults.point
    armed("rank=1,point=after_rename,kind=sigkill", rank=0)
    assert faults.point is before


@pytest.mark.parametrize("kind", faults.ERRORS)
def test_errors_of_the_disk(armed, kind):
    armed(f"point=before_save,kind={kind}")
    with pytest.raises(OSError, match="injected") as caught:
        faults.point("before_save")
    assert caught.value.errno == getattr(errno, kind.upper())


def test_damage(armed, tmp_path):
    armed("point=after_rename,kind=bitflip")
    (tmp_path / "file").write_bytes(bytes(1000))
    faults.point("after_rename", tmp_path / "file")
    assert np.unpackbits(np.fromfile(tmp_path / "file", np.uint8)).sum() == 1
    armed("point=histogram,kind=bitflip")
    counts = np.arange(5)
    faults.point("histogram", counts)
    assert counts[0] != 0 and counts[1:].tolist() == [1, 2, 3, 4]
    for kind in ("bitflip", "nan"):
        armed(f"point=weights,kind={kind}")
        weight = torch.nn.Parameter(torch.ones(2, 3))
        faults.point("weights", weight)
        assert torch.isnan(weight[0, 0]) if kind == "nan" else weight[0, 0] != 1
        assert (weight.reshape(-1)[1:] == 1).all()


@pytest.mark.parametrize("text, message", [
    ("nonsense", "expected rank=R,point=POINT,n=N,kind=KIND"),
    ("point=before_save,kind=sigkill,when=now", "each once"),
    ("point=before_save,point=after_rename,kind=sigkill", "each once"),
    ("point=nowhere,kind=sigkill", "point: got 'nowhere', expected one of before_select"),
    ("point=before_save,kind=fire", "kind: got 'fire', expected one of sigkill"),
    ("kind=sigkill", "point: got ''"),
    ("point=before_save,kind=sigkill,n=-1", "n: got '-1', expected a whole number"),
    ("point=before_save,kind=bitflip",
     "bitflip has nothing to damage at before_save; points that do: histogram"),
    ("point=after_rename,kind=nan",
     "nan has nothing to damage at after_rename; points that do: histogram, samples, weights"),
])
def test_what_it_does_not_know_is_refused(armed, text, message):
    with pytest.raises(InputError, match="HPCFILTER_FAULT") as caught:
        armed(text)
    assert message in str(caught.value)


def test_every_point_is_passed_in_the_code():
    """The table of points and the code say the same."""
    import re
    from pathlib import Path

    import hpcfilter

    text = "".join(path.read_text() for path in Path(hpcfilter.__file__).parent.rglob("*.py"))
    assert set(re.findall(r'faults\.point\("(\w+)"', text)) == set(faults.POINTS)
