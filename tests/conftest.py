"""What the tests share: packed digits, the way to start ranks, the reasons for skips, which
tests go together."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

# nets this small gain nothing from more, and lose much on a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

import launches
import numpy as np
import pytest
from fakes import SHORT, FakeScheduler, in_one_piece
from slurm_cluster import SlurmCluster, Unavailable

from hpcfilter.base.alive import notice
from hpcfilter.base.errors import InputError
from hpcfilter.jobs import mpirun
from hpcfilter.pack.pack import pack

pytest_plugins = ["configs", "page_runs"]  # fixtures: run configs, pages
CHECKOUT = Path(__file__).parent.parent
HELPERS = CHECKOUT / "tests" / "helpers"  # with modules that stand for a user's own, such as custom
PROGRAMS = CHECKOUT / "tests" / "ranks" / "programs"
TIMEOUT = launches.TIMEOUT
RANKS = (1, 2, 3, 4, 8)
# What costs seconds to make and is made once in each worker: the tests that use it go to one worker.
COSTLY = "slurm", "undisturbed", "trained"
# mark -> the fixture that a test with it uses
MARKS = {"ranks": "real_ranks", "slurm": "slurm", "browser": "driver"}
# What takes longest goes first, so that at the end no worker waits for another.
FIRST = ("slurm", "undisturbed", "test_leaving", "test_nobody_hangs", "trained", "test_laws",
         "test_large_batch", "test_hostile", "test_evidence")


def pytest_addoption(parser):
    parser.addoption("--cold", action="store_true",
                     help="start every rank from nothing, not from a server that has imported torch")
    parser.addoption("--seed", type=int, default=int(time.strftime("%Y%m%d")),
                     help="of the nightly tests that draw (default: the date)")


def pytest_report_header(config):
    return (f"ranks: {'from nothing' if config.getoption('cold') else 'warm'}; seed of what is drawn: "
            f"{config.getoption('seed')}")


def group_of(item):
    """The tests that one worker runs: those that share what is costly, else those of a file."""
    return next((name for name in COSTLY if name in item.fixturenames), item.path.stem)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config, items):
    """Marks by what a test uses, and groups for `--dist loadgroup`. A wrapper comes before xdist, which reads
    them."""
    ranks = {}
    for item in items:
        group = group_of(item)
        item.add_marker(pytest.mark.xdist_group(group))
        ranks[item] = FIRST.index(group) if group in FIRST else len(FIRST)
        for mark, fixture in MARKS.items():
            if fixture in item.fixturenames:
                item.add_marker(mark)
    items.sort(key=ranks.get)
    yield
    if config.getoption("loadgroup", False) and not all("@" in item.nodeid for item in items):
        raise pytest.UsageError("pytest-xdist has made no groups: this pytest is too new for it; expected "
                                "the one that pyproject.toml names")


@pytest.fixture(autouse=True)
def own_process(tmp_path_factory):
    """After a command in this process its signals are as they were, and no module of a folder of a test
    is left."""
    before = set(sys.modules)
    yield
    notice.listen(())
    folder = str(tmp_path_factory.getbasetemp())
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(folder):
            del sys.modules[name]


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The handwritten digits, packed: 1438 training and 359 test images of 8 x 8, 10 classes."""
    path = tmp_path_factory.mktemp("digits") / "digits.h5"
    pack("digits", path)
    return path


@pytest.fixture(scope="session")
def regression(tmp_path_factory):
    """200 rows of 6 features with targets of shape (2,), linear in the features."""
    folder = tmp_path_factory.mktemp("regression")
    x = np.random.default_rng(0).normal(size=(250, 6)).astype(np.float32)
    np.savez(folder / "source.npz", x=x, y=np.stack([x.sum(1), x[:, 0] - x[:, 1]], axis=1))
    pack(folder / "source.npz", folder / "packed.h5")
    return folder / "packed.h5"


@pytest.fixture(scope="session")
def vectors(tmp_path_factory):
    """2880 training and 720 test rows of 2048 float32, 28 MiB in all, of 3 classes."""
    folder, rng = tmp_path_factory.mktemp("vectors"), np.random.default_rng(0)
    y = rng.integers(0, 3, 3600)
    np.savez(folder / "source.npz",
             x=(rng.normal(size=(3600, 2048)) + 0.1 * y[:, None]).astype(np.float32), y=y)
    pack(folder / "source.npz", folder / "packed.h5")
    return folder / "packed.h5"


@pytest.fixture
def node(tmp_path):
    """The path on a node that files are staged to."""
    return tmp_path / "node" / "packed.h5"


@pytest.fixture(scope="session")
def shared_data():
    """The folder with Fashion-MNIST and CIFAR-10: $HPCFILTER_DATA, else ../shared/data."""
    folder = Path(os.environ.get("HPCFILTER_DATA", CHECKOUT.parent / "shared" / "data"))
    if not (folder / "fashion_mnist.h5").exists():
        pytest.skip(f"no fashion_mnist.h5 in {folder}; set HPCFILTER_DATA")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, digits, regression):
    """trained(name): the folder of a short run, of those that landscapes.runs_in names. To be read only."""
    from landscapes import runs_in  # late: it needs torch

    return runs_in(tmp_path_factory.mktemp("trained"), digits, regression)


@pytest.fixture
def bench(trained):
    """bench(name of a run, options) -> a probe that has not measured anything yet."""
    from landscapes import unmeasured

    return lambda name, **options: unmeasured(trained(name), **options)


@pytest.fixture(autouse=True)
def sockets(monkeypatch, tmp_path_factory):
    """Open MPI's folders of sockets, named by process number, where no launcher that was killed before has
    left one of the same number."""
    monkeypatch.setenv("PRTE_MCA_prte_tmpdir_base", str(tmp_path_factory.mktemp("sockets")))


@pytest.fixture(scope="session")
def real_ranks():
    """Skips where there is no MPI or no Horovod to start ranks with."""
    for module in ("mpi4py", "horovod"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: no real ranks")
    try:
        mpirun(2)
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def warm(real_ranks, pytestconfig):
    """Ranks that start at once; with --cold they start from nothing all the same."""
    servers = launches.Servers(cold=pytestconfig.getoption("cold"))
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def hpcfilter(warm):
    """hpcfilter(ranks, *words) -> CompletedProcess: the command line on real ranks, within the time limit."""
    return lambda ranks, *words, **more: warm.run(ranks, ["-m", "hpcfilter", *words], **more)


@pytest.fixture
def warm_ranks(warm):
    """Whatever starts ranks in this process gets warm ones."""
    with warm.instead():
        yield


@pytest.fixture(scope="session")
def cold_hpcfilter(real_ranks):
    """The same on ranks that start from nothing: for deaths, what happens at the start, and the environment
    that Python and torch read there."""
    return lambda ranks, *words, **more: launches.cold(ranks, ["-m", "hpcfilter", *words], **more)


@pytest.fixture(scope="session")
def program(warm):
    """program(ranks, name, *words): a program of tests/ranks/programs on real ranks, within
    the time limit."""
    return lambda ranks, name, *words: warm.run(ranks, [PROGRAMS / f"{name}.py", *words])


@pytest.fixture(scope="session")
def cold_program(real_ranks):
    """The same on ranks that start from nothing."""
    return lambda ranks, name, *words: launches.cold(ranks, [PROGRAMS / f"{name}.py", *words])


@pytest.fixture
def run(digits, config, tmp_path, monkeypatch):
    """Path of a run config in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return config(digits, job={"account": "abc123"})


@pytest.fixture
def submitted(tmp_path, monkeypatch):
    """Programs named as the submitting ones, which note how they were called; submitted() -> the lines."""
    folder = tmp_path / "bin"
    folder.mkdir()
    answers = {"sbatch": "4711;cluster", "bsub": "Job <4711> is submitted to queue <batch>.",
               "qsub": "4711.server", "flux": "f4711"}
    for name, answer in answers.items():
        (folder / name).write_text(f'#!/bin/bash\necho "{name} $* $(cat | head -n 1)" >> {tmp_path}/calls\n'
                                   f'echo "{answer}"\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return lambda: (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []


@pytest.fixture
def fake_scheduler(tmp_path, warm):
    """Fake LSF, PBS and Flux, with jobs of their own, which end with the test."""
    fakes = FakeScheduler(tmp_path / "fakes", warm.program())
    yield fakes
    fakes.end()


@pytest.fixture(scope="session")
def undisturbed(digits, warm, tmp_path_factory):
    """The digests of the weights that fakes.RUN ends with in one piece: {(): of the whole run,
    fakes.SHORT: of the short one}."""
    with warm.instead():
        return {words: in_one_piece(digits, tmp_path_factory.mktemp("undisturbed"), *words)
                for words in ((), SHORT)}


@pytest.fixture(scope="session")
def slurm(real_ranks):
    """A SlurmCluster of four emulated nodes; skips where none can be started."""
    with tempfile.TemporaryDirectory(prefix="slurm", dir="/tmp") as folder, ExitStack() as up:  # a short path
        try:
            cluster = up.enter_context(SlurmCluster(folder))
        except Unavailable as reason:
            pytest.skip(str(reason))
        yield cluster


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(kibibytes) -> the folder of a file system of that size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kibibytes):
        words = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", folder]
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode:
            pytest.skip(f"no small file system to fill: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True, timeout=20, check=False)
