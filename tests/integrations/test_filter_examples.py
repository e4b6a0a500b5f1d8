"""The filter's examples: how little they change, and on real ranks under Horovod and torch.distributed, whose
communicator keeps the laws of all."""

import difflib
import re
import socket

import pytest
from conftest import CHECKOUT, PROGRAMS

from hpcfilter.comm import surroundings


def test_without_a_launcher_there_is_one_rank():
    assert surroundings().size == 1


@pytest.mark.parametrize("name", ["horovod", "ddp"])
def test_an_example_changes_five_lines(name):
    plain, filtered = ((CHECKOUT / "examples" / f"{name}_{kind}.py").read_text().splitlines()[1:]
                       for kind in ("plain", "filtered"))
    new = [line for line in difflib.ndiff(plain, filtered) if line.startswith("+ ") and line[2:].strip()]
    assert len(new) <= 5


def accuracies(done):
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"epoch\s+(\d+)\s+trained (\d+)\s+accuracy ([\d.]+)", done.stdout)
    assert len(rows) == 15
    return [int(trained) for _, trained, _ in rows], float(rows[-1][2])


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("name", ["horovod", "ddp"])
def test_an_example_on_real_ranks(name, warm, port):
    """Plain and filtered under mpirun: as accurate, with fewer samples."""
    pytest.importorskip("sklearn")
    results = {}
    for kind in ("plain", "filtered"):
        script = CHECKOUT / "examples" / f"{name}_{kind}.py"
        words = [script] if name == "horovod" else [PROGRAMS / "as_torchrun.py", port, script]
        results[kind] = accuracies(warm.run(2, words))
    (all_samples, plain), (kept, filtered) = results["plain"], results["filtered"]
    assert set(all_samples) == {1400} and kept[0] == kept[-1] == 1400 and max(kept[1:13]) < 1200
    assert plain > 85 and filtered > plain - 4


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_laws_of_communicators_hold_for_torch(ranks, warm, port):
    words = [PROGRAMS / "as_torchrun.py", port, PROGRAMS / "comm_laws_torch.py"]
    done = warm.run(ranks, words)
    assert done.returncode == 0 and done.stdout.count("held") == 4 + (ranks == 3), done.stderr
