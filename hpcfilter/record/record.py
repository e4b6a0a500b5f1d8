"""What a run leaves behind and shows: rank 0 writes metrics.jsonl and the console, the other ranks nothing.

Callers call on every rank and never ask who they are; the record does.
"""

import fcntl
import importlib.metadata
import json
import math
import os
import platform
import socket
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from hpcfilter.errors import InputError

LET_GO = 10  # seconds that a job waits for the end of another one in its run folder
PACKAGES = ("hpcfilter", "torch", "numpy", "h5py", "mpi4py", "horovod")


@contextmanager
def progress(total, what):
    """Show the progress of `total` steps: a bar on a terminal, a plain line per tenth in a log. Yields advance(steps=1)."""
    if sys.stderr.isatty():
        with tqdm(total=total, desc=what, unit_scale=True, leave=False) as bar:
            yield bar.update
        return
    done = shown = 0

    def advance(steps=1):
        nonlocal done, shown
        done += steps
        if total and done * 10 // total > shown:
            shown = done * 10 // total
            print(f"{what}: {done} of {total} ({100 * done // total} %)", file=sys.stderr, flush=True)

    yield advance


def commit(folder=Path(__file__).parent.parent):
    """The git commit of the checkout that holds hpcfilter, or None outside of one. No process is started."""
    git = folder / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        reference = head.removeprefix("ref: ")
        if (git / reference).exists():
            return (git / reference).read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {reference}")), None)
    except OSError:
        return None


def versions():
    """Versions of python and of the packages that matter; a missing one is null."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


class Record:
    """The metrics.jsonl of one run folder and the console line beside each row.

    Only rank 0 (`speaks`) writes. Rows are brought to the disk as they come, so a killed run keeps what it had.
    """

    def __init__(self, run_dir, speaks):
        self.path = Path(run_dir) / "metrics.jsonl"
        self.speaks = speaks

    @contextmanager
    def alone(self):
        """Make the run folder and hold it against other jobs while the block runs. Raises InputError on rank 0 when another one works there.

        A job that has just been ended may take a moment to let go. Where the file system knows no locks, nobody is kept out.
        """
        if not self.speaks:
            yield
            return
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = open(folder / "lock", "w")
        except OSError as error:
            raise InputError(f"{folder}: cannot be the run folder: {error.strerror}") from None
        with file:
            end = time.monotonic() + LET_GO
            while not _locked(file):
                if time.monotonic() > end:
                    raise InputError(f"{folder}: another job works in this run folder; wait for its end, or give another --run-dir")
                time.sleep(0.1)
            yield

    def restart(self, epoch, row=None):
        """Forget the rows of `epoch` and later, which a resumed run writes again. Earlier rows stay as they are.

        row: that of the last finished epoch, for the case that the run was killed between its checkpoint and its row.
        """
        if not self.speaks or not self.path.exists():
            return
        kept = []
        for number, text in enumerate(self.path.read_bytes().split(b"\n")[:-1], 1):  # behind the last line end: what a killed run did not finish
            try:
                line = text.decode()
                there = json.loads(line)
                there["kind"]
            except (ValueError, KeyError, TypeError):
                raise InputError(f"{self.path}, line {number}: is no row of a run, the file is damaged; take the line out, or move the file "
                                 "away") from None
            if there["kind"] in ("run", "stop") or there.get("epoch", epoch) < epoch:
                kept.append(line)
                row = None if there["kind"] == "epoch" and there["epoch"] == epoch - 1 else row
        if row is not None:
            kept.append(json.dumps({"kind": "epoch", **row}))
        replace_text(self.path, "".join(f"{line}\n" for line in kept))

    def row(self, kind, **values):
        """Append one row {"kind": kind, ...}."""
        if self.speaks:
            with open(self.path, "a") as file:
                file.write(json.dumps({"kind": kind, **finite(values)}, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def run(self, config, comm, **values):
        """The row of provenance that opens a run and each resumption."""
        self.row("run", versions=versions(), commit=commit(), config=config.digest(), machine=socket.gethostname(),
                 system=platform.platform(), cores=os.cpu_count(), ranks=comm.size, ranks_per_node=comm.local_size,
                 backend=comm.backend, started=time.strftime("%Y-%m-%dT%H:%M:%S%z"), **values)

    def say(self, text):
        """One line on the console."""
        if self.speaks:
            print(text, flush=True)

    def warn(self, text):
        """One line on the error output."""
        if self.speaks:
            print(f"hpcfilter: warning: {text}", file=sys.stderr, flush=True)


def _locked(file):
    """Take the lock of an open file, which ends with the process. Returns False when another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # no locks here
    return True


def replace_text(path, text):
    """Write a text file that is there whole, the old or the new one, whatever happens meanwhile. Raises OSError."""
    temporary = path.with_suffix(f".part{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def finite(values):
    """Numbers that JSON does not know (NaN, infinities) become null."""
    return {key: finite(value) if isinstance(value, dict) else None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in values.items()}


class Stopwatch:
    """Seconds by phase: `with watch("train"): ...`; `seconds` is name -> float. A phase inside another one is not counted twice."""

    def __init__(self, *phases, spent=None):
        """spent: name -> seconds that have been spent before, by a part of the same work."""
        self.seconds = {**dict.fromkeys(phases, 0.0), **(spent or {})}
        self._start, self._inner = time.perf_counter() - sum(self.seconds.values()), 0.0
        self._open = {}  # phase -> since when it is open

    @contextmanager
    def __call__(self, phase):
        start, outer, self._inner = time.perf_counter(), self._inner, 0.0
        self._open[phase] = start
        yield
        whole = time.perf_counter() - self._open.pop(phase)
        self.seconds[phase] += whole - self._inner
        self._inner = outer + whole

    def so_far(self):
        """The seconds by phase, with those of the outermost phase that is still open."""
        spent = sum(self.seconds.values())
        return {**self.seconds, **{phase: self.seconds[phase] + self.total() - spent for phase in list(self._open)[:1]}}

    def total(self):
        """Seconds since the watch was made, and those spent before."""
        return time.perf_counter() - self._start


class Laps:
    """What the parts of a training step take: `lap("forward")` is the time since the last call. Cheap enough for every step."""

    def __init__(self, *parts, wait=None):
        """wait: function that returns when the device has done what it was told to; without it, times on a GPU are those of the telling."""
        self.seconds, self._wait = dict.fromkeys(parts, 0.0), wait
        self.start()

    def start(self):
        """Begin to count here; what was since the last lap is in no part."""
        self._last = time.perf_counter()

    def __call__(self, part):
        if self._wait:
            self._wait()
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now
