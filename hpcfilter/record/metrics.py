"""What a run leaves behind and shows: rank 0 writes metrics.jsonl and the console, the other ranks nothing.

Callers call on every rank and never ask who they are; the record does.
"""

import json
import math
import os
import platform
import socket
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hpcfilter.base.errors import InputError
from hpcfilter.base.files import replace_text
from hpcfilter.record.lock import Hold, alone
from hpcfilter.record.provenance import commit, versions


class Record:
    """The metrics.jsonl of one run folder and the console line beside each row.

    Only rank 0 (`speaks`) writes. Rows are brought to the disk as they come, so a killed run
    keeps what it had.
    """

    def __init__(self, run_dir, speaks):
        self.path = Path(run_dir) / "metrics.jsonl"
        self.speaks = speaks
        self._warned, self._hold = set(), Hold()

    @contextmanager
    def alone(self):
        """Make the run folder and hold it against other jobs while the block runs. Raises InputError on rank
        0 when another one works there.

        A job that has just been ended may take a moment to let go, one whose node has failed minutes. A lock
        that was left behind is named in a warning.
        """
        if not self.speaks:
            yield
            return
        folder = self.path.parent
        with ExitStack() as held:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._hold = held.enter_context(alone(folder, self.warn))
            except OSError as error:
                raise InputError(f"{folder}: cannot be the run folder: {error.strerror}") from None
            if self._hold.file:
                self.say(f"{self._hold.file}: holds the run folder, where the file system has no flock")
            try:
                yield
            finally:
                self._hold = Hold()

    @property
    def lost(self):
        """Whether another job is known to have taken the run folder over; this one is to leave."""
        return bool(self._hold.lost)

    def check_own(self):
        """Before anything is written: raise Failure on rank 0 when another job has taken the run
        folder over."""
        self._hold.check()

    def restart(self, epoch, row=None):
        """Forget the rows of `epoch` and later, which a resumed run writes again. Earlier
        rows stay as they are.

        row: that of the last finished epoch, for the case that the run was killed between
        its checkpoint and its row.
        """
        self.check_own()
        if not self.speaks or not self.path.exists():
            return
        kept = []
        # behind the last line end: what a killed run did not finish
        for number, text in enumerate(self.path.read_bytes().split(b"\n")[:-1], 1):
            try:
                line = text.decode()
                there = json.loads(line)
                there["kind"]
            except (ValueError, KeyError, TypeError):
                raise InputError(f"{self.path}, line {number}: is no row of a run, the file is damaged; "
                                 "take the line out, or move the file away") from None
            if there["kind"] in ("run", "stop") or there.get("epoch", epoch) < epoch:
                kept.append(line)
                row = None if there["kind"] == "epoch" and there["epoch"] == epoch - 1 else row
        if row is not None:
            kept.append(json.dumps({"kind": "epoch", **row}))
        replace_text(self.path, "".join(f"{line}\n" for line in kept))

    def row(self, kind, **values):
        """Append one row {"kind": kind, ...}. Raises Failure when another job has taken the folder over."""
        self.check_own()
        if self.speaks:
            with open(self.path, "a") as file:
                file.write(json.dumps({"kind": kind, **finite(values)}, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def run(self, config, comm, **values):
        """The row of provenance that opens a run and each resumption."""
        self.row("run", versions=versions(), commit=commit(), config=config.digest(),
                 machine=socket.gethostname(), system=platform.platform(),
                 cores=os.cpu_count(), ranks=comm.size, ranks_per_node=comm.local_size, backend=comm.backend,
                 started=time.strftime("%Y-%m-%dT%H:%M:%S%z"), **values)

    def say(self, text):
        """One line on the console."""
        if self.speaks:
            print(text, flush=True)

    def warn_once(self, kind, text):
        """`warn`, the first time of each kind."""
        if kind not in self._warned:
            self.warn(text)
        self._warned.add(kind)

    def warn(self, text):
        """One line on the error output."""
        if self.speaks:
            print(f"hpcfilter: warning: {text}", file=sys.stderr, flush=True)


def finite(values):
    """Numbers that JSON does not know (NaN, infinities) become null."""
    return {key: finite(value) if isinstance(value, dict) else None if isinstance(value, float)
            and not math.isfinite(value) else value for key, value in values.items()}
