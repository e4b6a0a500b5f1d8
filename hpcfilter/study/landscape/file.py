"""The probe.h5 of a probe while it grows."""

import copy
import glob
import time
from contextlib import suppress
from pathlib import Path

from hpcfilter.base.errors import Failure, InputError
from hpcfilter.base.paths import check_output, trouble
from hpcfilter.data import Probe, read_probe, write_probe

EVERY = 2.0  # seconds, after which points that have come are written
SAME = "weights", "data", "selection", "options", "sets"  # attributes that a probe shares with its beginning


class File:
    """What has been measured so far: `probe`, the same on all ranks; rank 0 writes it.

    path: of the file. about: attributes of its root, as data.Probe has them. restart: begin anew, whatever
    stands there. All ranks must make one. Raises InputError on all ranks for a path that cannot be written,
    and when what stands there is not of this probe.
    """

    def __init__(self, path, about, restart, comm):
        self.path, self._comm, self._last = Path(path), comm, time.monotonic()
        before = comm.on_first(lambda: self._before(about, restart))
        sets, samples = ((before.sets, before.samples) if before
                         else ({name: {} for name in about["sets"]}, None))
        self.probe = copy.deepcopy(Probe(about, sets, samples))  # threads that play ranks would share it

    def _before(self, about, restart):
        """What stands in the file of this probe, or None."""
        check_output(self.path)
        # of a probe that was killed while it wrote
        for left in self.path.parent.glob(f"{glob.escape(self.path.name)}.part*"):
            with suppress(OSError):
                left.unlink()
        if restart or not self.path.exists():
            return None
        found = read_probe(self.path)
        for name in SAME:
            then, now = (part if isinstance(part, dict) else {"": part}
                         for part in (found.about.get(name), about[name]))
            for key in now:
                if then.get(key) != now[key]:
                    raise InputError(f"{self.path}: holds a probe of {name}{key and f' {key}'} "
                                     f"{then.get(key)}, got {now[key]}; give another --output, "
                                     "or --restart to begin anew")
        return found

    def save(self, now=True):
        """Write what there is. now: False for points, which are written when EVERY seconds are
        over. All ranks must call.

        Raises Failure on all ranks when the disk refuses; what stood there is then untouched.
        """
        def write():
            if now or time.monotonic() - self._last >= EVERY:
                try:
                    write_probe(self.path, self.probe)
                except OSError as error:
                    raise Failure(f"{self.path}: cannot be written: {trouble(error)}") from error
                self._last = time.monotonic()

        self._comm.on_first(write)
