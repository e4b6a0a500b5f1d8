import ast
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from comm_laws import LAWS
from conftest import CHECKOUT, HELPERS, RANKS, TIMEOUT

from hpcfilter.base.errors import BrokenInvariant
from hpcfilter.comm import Comm, SerialComm
from hpcfilter.comm.threads import ThreadComm, run
from hpcfilter.jobs.local import environment, mpirun, run_local


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_one_process(law):
    law(SerialComm())


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_threads(law, ranks):
    run(ranks, law)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_mpi(program, ranks):
    done = program(ranks, "comm_laws_mpi")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == " held ".join(["", *LAWS]).split()


def test_one_failed_rank_ends_all(cold_program):
    start = time.monotonic()
    done = cold_program(3, "fail_on_one_rank")
    assert done.returncode != 0 and "RuntimeError: rank gone" in done.stderr
    assert time.monotonic() - start < 30


def test_bad_input_that_one_rank_alone_finds_ends_all(cold_program):
    done = cold_program(3, "bad_input_on_one_rank")
    assert done.returncode == 2 and "hpcfilter: rank 2: no such thing here" in done.stderr


@pytest.mark.parametrize("start", [["-m", "hpcfilter"], [str(Path(sys.executable).with_name("hpcfilter"))]],
                         ids=["module", "script"])
def test_the_users_own_module_is_found_in_the_current_folder(tmp_path, digits, config, start):
    (tmp_path / "mine.py").write_text("from torch import nn\nnet = lambda inputs, outputs: "
                                      "nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))\n")
    path = config(digits, model={"name": None, "width": None, "factory": "mine:net"}, train={"epochs": 1})
    words = [sys.executable, *start, "train", str(path), "--run-dir", "run"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr


def test_the_bare_command_ends_all_ranks_too(tmp_path, regression, config, real_ranks, monkeypatch):
    """Without mpi4py's runner, which ends all ranks after an exception, the command line does it itself."""
    monkeypatch.setenv("PYTHONPATH", str(HELPERS))
    path = config(regression, model={"name": None, "width": None, "factory": "custom:fails_on_the_last_rank"})
    words = [*mpirun(2), sys.executable, "-m", "hpcfilter", "train", str(path),
             "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(words, env=environment(2), capture_output=True, text=True, timeout=TIMEOUT,
                          check=False)
    assert (done.returncode != 0 and "rank 1 of 2 failed" in done.stderr
            and "this node is broken" in done.stderr)


def test_a_launcher_has_its_sockets_to_itself(real_ranks):
    """Open MPI names their folder by its process number: one left behind by a killed launcher stopped the
    next with that number."""
    ask = ["-c", "import os; print(os.environ['PMIX_SERVER_TMPDIR'])"]
    first, second = (Path(run_local(2, ask, TIMEOUT, capture=True).stdout.split()[0]) for _ in range(2))
    assert first.parent != second.parent and not first.parent.exists() and not second.parent.exists()


def methods(file):
    """Names of the public methods of the communicator in a file of the package. MPI must not start in this
    process, so nothing is imported."""
    tree = ast.parse((CHECKOUT / "hpcfilter" / "comm" / file).read_text())
    comm = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith("Comm"))
    return {node.name for node in comm.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"}


COLLECTIVES = {"sum", "max", "min", "exscan", "allgather", "gather", "bcast", "alltoallv", "barrier"}
LIFE = {"channel", "abort", "close"}


def test_no_collective_is_forgotten():
    """Each communicator has them all, and of its own: one that took another's would quietly give
    this rank's own result."""
    assert methods("base.py") == COLLECTIVES | LIFE | {"together", "on_first", "before_close"}
    for file in ("threads.py", "distributed.py", "mpi.py"):
        assert methods(file) == COLLECTIVES | LIFE, file
    assert Comm.__abstractmethods__ == COLLECTIVES | LIFE
    for name in COLLECTIVES:
        assert name in vars(SerialComm) and name in vars(ThreadComm) and ThreadComm.__bases__ == (Comm,)


@pytest.mark.parametrize("name", sorted(COLLECTIVES | LIFE))
def test_a_communicator_that_lacks_a_method_cannot_be_made(name):
    whole = {other: getattr(SerialComm, other) for other in COLLECTIVES | LIFE if other != name}
    with pytest.raises(TypeError, match=f"abstract .*'?{name}'?"):
        type("Lacking", (Comm,), whole)()


def test_a_communicator_carries_numbers_only():
    """No gradient, no optimiser: what the ranks do to weights is the exchange's."""
    for file in ("base.py", "mpi.py", "threads.py", "__init__.py"):
        assert not re.search(r"import (torch|horovod)|optimizer|model\b",
                             (CHECKOUT / "hpcfilter" / "comm" / file).read_text()), file


def test_a_mismatched_collective_is_named():
    with pytest.raises(BrokenInvariant, match=r"\{0: 'sum', 1: 'allgather'\}"):
        run(2, lambda comm: comm.sum(1) if comm.rank == 0 else comm.allgather(np.zeros(1)))


def test_a_rank_that_stays_away_does_not_hang():
    with pytest.raises(threading.BrokenBarrierError):
        run(2, lambda comm: comm.sum(1) if comm.rank else None, timeout=1)


def test_payload_is_counted():
    sent = run(2, lambda comm: (comm.sum(np.zeros(10, np.int64)), comm.sent)[1])
    assert sent == [80, 80]
