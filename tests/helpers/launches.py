"""Start ranks of this machine: warm ones, of servers that have imported torch, and cold ones,
which start from nothing."""

import shlex
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from hpcfilter.jobs import local, run_local

WARM = Path(__file__).parent / "warm.py"
# Where seconds go before a rank has done anything.
IMPORTED = ("numpy", "h5py", "scipy.stats", "pydantic", "torch", "torch._dynamo", "torch._inductor.config",
            "mpi4py", "horovod.torch", "hpcfilter.cli", "hpcfilter.train.run",
            "hpcfilter.study.offline.score")
# of which neighbours take different ones: each has other hashes of strings, so that an order
# by hash would show
SERVERS = 2
TIMEOUT = 180  # seconds for anything that starts ranks


class Servers:
    """The servers of warm.py, started at the first use and ended by `close`. cold: there are none, and all
    ranks start from nothing."""

    def __init__(self, cold=False):
        self._cold, self._folder, self._servers = cold, None, []

    def python(self):
        """The words that take the place of `python`. Returns list of str."""
        if self._cold:
            return [sys.executable]
        if self._folder is None:
            # the path of a socket is short
            self._folder = tempfile.TemporaryDirectory(prefix="warm", dir="/tmp")
            self._servers = [self._started(path) for path in self._paths()]
            for server in self._servers:
                if server.stdout.readline() != "ready\n":
                    raise RuntimeError(f"a server of {WARM} does not start; its error stands above")
        return [sys.executable, "-I", "-S", str(WARM), ":".join(self._paths())]

    def program(self):
        """The same as one program, for what takes the path of an interpreter. Returns str."""
        words = self.python()
        if self._cold:
            return sys.executable
        program = Path(self._folder.name) / "python"
        if not program.exists():
            program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
            program.chmod(0o755)
        return str(program)

    def _paths(self):
        return [f"{self._folder.name}/{number}" for number in range(SERVERS)]

    @staticmethod
    def _started(path):
        words = [sys.executable, "-u", WARM, "serve", path, *IMPORTED]
        return subprocess.Popen(list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                text=True, start_new_session=True)

    @contextmanager
    def instead(self):
        """Whoever starts ranks by hpcfilter.jobs within this context gets warm ones."""
        before, local.PYTHON = local.PYTHON, self.python()
        try:
            yield
        finally:
            local.PYTHON = before

    def run(self, ranks, words, timeout=TIMEOUT, **more):
        """`python WORDS` on warm ranks. more: extra environment variables. Returns
        CompletedProcess, with text."""
        with self.instead():
            return run_local(ranks, words, timeout, capture=True, **more)

    def close(self):
        for server in self._servers:
            server.communicate(timeout=10)  # its input ends
        if self._folder is not None:
            self._folder.cleanup()


def cold(ranks, words, timeout=TIMEOUT, **more):
    """`python WORDS` on ranks that start from nothing. more: extra environment variables. Returns
    CompletedProcess, with text."""
    return run_local(ranks, words, timeout, capture=True, **more)
