"""A warm process is a process like any other: what it is given, what it says, how it ends."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from launches import Servers

SCRIPT = """import os, sys
print([word for word in sys.argv if not word.startswith("/")], os.getcwd(), os.fsencode(os.environ["GIVEN"]))
print(os.path.basename(sys.path[0]), "warm" in str(sys.path), os.environ.get("LATE"),
      len(os.listdir("/proc/self/fd")))
print(__name__, sys.stdin.read())
print("to the error output", file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture(scope="module")
def warm(real_ranks):
    """Warm also where all other ranks are to start from nothing."""
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture(params=["warm", "cold"])
def python(request, warm):
    """The words that start Python."""
    return warm.python() if request.param == "warm" else [sys.executable]


def done(python, *words, **more):
    return subprocess.run([*python, *map(str, words)], capture_output=True, text=True, timeout=60,
                          check=False, **more)


@pytest.mark.parametrize("how", ["-c", "-m", pytest.param("script", marks=pytest.mark.nightly)])
def test_it_is_given_the_same(warm, tmp_path, how):
    (tmp_path / "program.py").write_text(SCRIPT)
    (tmp_path / "folder").mkdir()
    words = {"-c": ["-c", SCRIPT], "-m": ["-m", "program"], "script": [tmp_path / "program.py"]}[how]
    environment = {**os.environ, "GIVEN": "ä \udcff", "PYTHONPATH": str(tmp_path)}
    environment.pop("HPCFILTER_DATA", None)
    cold, same = (done(python, *words, "one", "two words", cwd=tmp_path / "folder", env=environment,
                       input="standard input") for python in ([sys.executable], warm.python()))
    assert ((same.returncode, same.stdout, same.stderr) == (3, cold.stdout, cold.stderr)
            and "two words" in cold.stdout), same


@pytest.mark.parametrize("code, expected",
                         [("pass", 0), ("1 / 0", 1), ("import sys; sys.exit('why')", 1),
                          ("import os; os._exit(7)", 7), ("import os; os.kill(os.getpid(), 9)", -9),
                          ("import os; os.kill(os.getpid(), 15)", -15), ("import os; os.abort()", -6)])
def test_it_ends_the_same(python, code, expected):
    ended = done(python, "-c", code)
    assert ended.returncode == expected, ended
    assert (("ZeroDivisionError" in ended.stderr) == ("/" in code)
            and (ended.stderr == "why\n") == ("why" in code))


WAIT = """import os, signal, time
signal.signal(signal.SIGUSR1, lambda *_: os._exit(5))
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number, expected",
                         [(signal.SIGUSR1, 5), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_signals_reach_it(python, number, expected):
    with subprocess.Popen([*python, "-c", WAIT], stdout=subprocess.PIPE, text=True) as process:
        worker = psutil.Process(int(process.stdout.readline()))
        process.send_signal(number)
        assert process.wait(20) == expected
    end = time.monotonic() + 20
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "it has outlived the process that stands for it"
        time.sleep(0.02)


def test_neighbours_have_other_hashes(warm):
    """As two processes have: what depends on the order of a set would show."""
    said = warm.run(2, ["-c", "print(hash('a string'))"])
    assert len(set(said.stdout.split())) == 2, said


def test_nothing_is_imported_that_starts_mpi(warm):
    code = ("import os, sys; print('torch' in sys.modules, 'mpi4py.MPI' in sys.modules, "
            "len(os.listdir('/proc/self/task')))")
    assert done(warm.python(), "-c", code).stdout == "True False 1\n"
