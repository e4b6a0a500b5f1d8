"""One job at a time in a run folder.

Where the file system offers flock, the lock is one: it ends with its process. Elsewhere a file says who works
here, and its holder touches it every few seconds. One that was left behind is known by its process, which has
ended, by its job, which has started anew, or because nobody touches it any more.
"""

import fcntl
import json
import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from hpcfilter.base.alive import pulse
from hpcfilter.base.errors import Failure, InputError

LET_GO = 10  # seconds that a job waits for the end of another one in its run folder
# ... under a scheduler: the flock of a node that has failed lasts as long as the file server believes in the
# node (NFSv4 about 90 s, Lustre about 150 s), and a requeued job comes before
NODES_LET_GO = 180
BEAT = 5  # seconds after which a holder touches its file
QUIET = 30  # seconds without a touch after which a file counts as left behind; file systems may be slow
TURN = 0.1  # seconds between two looks
LOOK = 1.0  # seconds that one look counts at most: while a file server stands still, nobody can touch a file
JOBS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "FLUX_JOB_ID")  # where a scheduler says which job this is
NODES = (*JOBS, "SGE_JOB_SPOOL_DIR")  # where there is one of these, nodes come and go


class Hold:
    """A run folder that this process holds. It may lose it: who could not touch its file for long counts as
    gone."""

    def __init__(self, path=None, own=""):
        """path: of the file that holds it, with the text `own`; None with flock, which cannot be lost. It is
        known as `file`."""
        self.file, self._own, self.lost = path, own, ""

    def check(self):
        """Raise Failure when another job has taken the folder over, so that nothing more is written there."""
        self.look()
        if self.lost:
            raise Failure(self.lost)

    def look(self):
        """Who holds the folder. `lost` says so from then on; "" while it is this process, or nobody."""
        if self.file is None or self.lost:
            return
        with suppress(OSError):
            found = _look(self.file)
            if found is not None and found[0] != self._own:
                self.lost = (f"{self.file}: {_named(_read(found[0]))} has taken this run folder over, as "
                             "nothing was heard of this job; it leaves, and saves nothing more")


@contextmanager
def alone(folder, warn):
    """Hold a run folder against other jobs while the block runs. folder: Path. warn: takes a line that says
    that somebody's lock was left behind, or is waited for. Yields Hold.

    Raises InputError when another job works there; one that has just been ended may take a moment to let go,
    and minutes if its node has failed. Raises OSError when no lock can be written.
    """
    with open(folder / "lock", "w") as file:
        if _locked(file, folder, warn):
            yield Hold()
            return
    with _owned(folder / "lock.owner", warn) as hold:
        yield hold


def _locked(file, folder, warn):
    """Whether the flock of an open file was taken; False where there is none. Raises InputError when another
    process keeps it."""
    began, said = time.monotonic(), False
    patience = NODES_LET_GO if any(os.environ.get(name) for name in NODES) else LET_GO
    while (got := _flock(file)) is False:
        waited = time.monotonic() - began
        if waited > patience:
            raise _taken(folder)
        if waited > LET_GO and not said:
            warn(f"{folder}: another job holds this run folder; waiting up to {patience - LET_GO:g} s more, "
                 "as the lock of a node that has failed lasts for minutes")
            said = True
        pulse.beat()
        time.sleep(TURN)
    return bool(got)


def _flock(file):
    """Take the flock of an open file. Returns False when another process has it, None where there is none."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _taken(folder, who=""):
    return InputError(f"{folder}: another job works in this run folder{who}; wait for its end, "
                      "or give another --run-dir")


@contextmanager
def _owned(path, warn):
    """Hold a file that names this process. Yields Hold."""
    own = json.dumps(_identity(os.getpid()))
    _claim(path, own, warn)
    done, hold = threading.Event(), Hold(path, own)
    beats = threading.Thread(target=_beat, args=(path, own, done, hold), daemon=True)
    beats.start()
    try:
        yield hold
    finally:
        done.set()
        beats.join()
        if (_look(path) or [""])[0] == own:
            path.unlink(missing_ok=True)


def _identity(process):
    """Who a process of this machine is, as JSON can hold it."""
    job = next((os.environ[name] for name in JOBS if os.environ.get(name)), "")
    return {"host": socket.gethostname(), "process": process, "job": job,
            "start": os.environ.get("SLURM_RESTART_COUNT", "0"), "begun": _begun(process),
            "numbers": _numbers(), "token": os.urandom(8).hex()}


def _begun(process):
    """When a process of this machine was started, in the kernel's ticks; "" without such a process."""
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def _numbers():
    """What process numbers are counted in: this start of this machine, and this container."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    return ""


def _claim(path, own, warn):
    """Make the file, with `own` in it. Raises InputError when somebody else has it, and is alive."""
    seen, quiet, alive, end = None, 0.0, False, time.monotonic() + LET_GO
    looked = time.monotonic()
    while not _made(path, own):
        if (found := _look(path)) is None:
            continue  # it has just gone
        before, looked = looked, time.monotonic()
        quiet += min(looked - before, LOOK)
        if found != seen:
            alive = seen is not None and found[0] == seen[0]  # touched while we looked
            seen, quiet = found, 0.0
        other = _read(found[0])
        alive = alive or _runs(other)
        if not alive and (why := _left_behind(other, json.loads(own), quiet)):
            if _take_over(path, found[0], own):
                warn(f"{path}: was left behind by {_named(other)}: {why}; it is taken over")
                return
        if alive and time.monotonic() > end:
            raise _taken(path.parent, f": {_named(other)} ({path.name})")
        pulse.beat()
        time.sleep(TURN)


def _made(path, own):
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    with open(file, "w") as opened:
        opened.write(own)
        opened.flush()
        os.fsync(file)
    return True


def _look(path):
    """What stands in the file and when it was touched last; None when it is gone. Opening it makes network
    file systems ask anew."""
    with suppress(FileNotFoundError), open(path) as file:
        return file.read(), os.fstat(file.fileno()).st_mtime_ns
    return None


def _read(text):
    """The identity in a file; {} when it was not written to its end."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _runs(other):
    """Whether it is certain that a holder runs: it is one of this machine."""
    return (bool(other.get("begun")) and other.get("numbers") == _numbers()
            and _begun(other.get("process")) == other["begun"])


def _left_behind(other, own, quiet):
    """Why a file counts as left behind; "" while that is not certain. quiet: seconds that nobody has
    touched it."""
    if other.get("numbers") == own["numbers"] and own["numbers"]:
        return "its process has ended"
    if other.get("job") and other["job"] == own["job"] and other.get("start") != own["start"]:
        return "its job has started anew"
    return f"nobody has touched it for {quiet:.0f} s" if quiet > QUIET else ""


def _take_over(path, text, own):
    """Put `own` into the place of `text`. Only one does so at a time, and the file is never gone meanwhile:
    else two could make it anew. Returns whether it stands there now."""
    guard = path.with_name(f"{path.name}.taking")
    if not _made(guard, own):
        with suppress(FileNotFoundError):
            if time.time() - guard.stat().st_mtime > QUIET:  # whoever made it has ended
                guard.unlink()
        return False
    try:
        if (_look(path) or [""])[0] != text:
            return False
        fresh = path.with_name(f"{path.name}.{os.urandom(6).hex()}")
        _made(fresh, own)
        os.replace(fresh, path)
        return True
    finally:
        guard.unlink(missing_ok=True)


def _beat(path, own, done, hold):
    """Touch the file until `done`, or until `hold` has lost it; make it anew when it has gone."""
    while not hold.lost and not done.wait(BEAT):
        hold.look()
        with suppress(OSError):
            if not hold.lost and not _made(path, own):
                os.utime(path)


def _named(other):
    """A holder in words."""
    job = f", job {other['job']}" if other.get("job") else ""
    return (f"process {other.get('process')} of {other.get('host')}{job}" if other
            else "somebody whose name was not written to its end")
