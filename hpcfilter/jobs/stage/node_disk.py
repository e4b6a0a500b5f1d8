"""The disk of a node, of which nothing is believed either: new files under a temporary name, and
what the disk gives back.

A temporary file is locked by the process that writes it; one without a lock is what a killed
process has left.
"""

import fcntl
import glob
import os
import shutil
import socket
from contextlib import contextmanager, suppress

from hpcfilter.base.errors import Failure
from hpcfilter.data.distrust import one_line


@contextmanager
def node_disk(dest):
    """A disk that refuses becomes a Failure that begins with `dest`."""
    try:
        yield
    except OSError as error:
        raise Failure(f"{dest}: {error.strerror or one_line(error)} on {socket.gethostname()}") from None


def check_folder(folder):
    """Raise Failure for a folder that somebody else may have prepared: a link, or another user's. In a /tmp
    for all, names can be guessed."""
    if folder.is_symlink() or folder.stat().st_uid not in (os.geteuid(), 0):
        raise Failure(f"{folder}: is a link or another user's on {socket.gethostname()}; "
                      "expected a folder of your own")


@contextmanager
def replacing(dest, size, needed):
    """Make a file of `size` bytes, all holes, that replaces `dest`, a Path, when the block ends
    well. Yields its path, str.

    needed: bytes of it that will be written. Raises Failure when the disk has not as much room, or refuses.
    """
    with node_disk(dest):
        dest.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_folder(dest.parent)
        _remove_leftovers(dest)
        if (free := shutil.disk_usage(dest.parent).free) < needed:
            raise Failure(f"{dest}: needs {needed} bytes, but {free} are free in {dest.parent} on "
                          f"{socket.gethostname()}")
        path, lock = _create(dest)
        try:
            os.truncate(lock, size)
            yield path
            os.replace(path, dest)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)
            os.close(lock)


def given_back_wrong(path, seal, blocks):
    """Which of these blocks the disk itself, not the memory before it, gives back otherwise
    than the seal says.

    seal: Seal. blocks: iterable of int. Yields int as they are found. Raises OSError.
    """
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        yield from seal.wrong(file, blocks)


def failing_disk(dest, seal, number):
    """The Failure of a disk that does not give a block back as it was written. Returns it, to be raised."""
    start, stop = seal.span(number)
    return Failure(f"{dest}: bytes {start} to {stop - 1} were right when they were written, and are wrong "
                   f"when they are read back; the disk or the memory of {socket.gethostname()} fails")


def _create(dest):
    """Make a file beside `dest` that no other process has. Returns (path, descriptor that holds its lock)."""
    while True:
        path = f"{dest}.staging-{os.urandom(6).hex()}"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return path, lock
        os.close(lock)  # it was taken for a leftover before it was locked


def _remove_leftovers(dest):
    for path in dest.parent.glob(f"{glob.escape(dest.name)}.staging-*"):
        with suppress(OSError):  # somebody is at work on it, or it is another user's
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(file)
