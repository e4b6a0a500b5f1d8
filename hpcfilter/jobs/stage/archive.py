"""A packed file out of a tar: its bytes and nothing else of the archive reach the disk."""

import os
import tarfile
import zlib
from contextlib import contextmanager
from pathlib import PurePosixPath

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.data.distrust import check_declared, damage, one_line
from hpcfilter.data.seal import BLOCK, covered, damaged, parse_seal
from hpcfilter.jobs.stage.node_disk import failing_disk, given_back_wrong, replacing

HEADER = 1 << 16  # bytes of what is no file in an archive, which tarfile takes into memory


class _Header(tarfile.TarInfo):
    """A header of an archive. What it announces must fit into memory when it is no file."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        header = super().frombuf(buf, encoding, errors)
        if header.size > HEADER and not header.isreg():
            raise tarfile.ReadError(f"got a header of {header.size} bytes, expected at most {HEADER}")
        return header


def unpack(source, dest):
    """Take the one file named like `dest` out of the archive `source`, as a stream, and
    check it against its seal.

    source: path of a tar, plain or compressed by a method that this Python knows. dest: Path, replaced when
    all is well. Returns the bytes written. Raises InputError for an archive that is damaged or does not hold
    it once, as a plain file; Failure when the disk refuses, or fails.
    """
    where = f"{source}: {dest.name}"
    with _reading(source):
        archive = tarfile.open(source, "r|*", tarinfo=_Header)
    with archive:
        member = _next(archive, source, dest)
        if member is None:
            raise InputError(f"{source}: holds no file named {dest.name}")
        check_declared(where, member.size, os.path.getsize(source))
        covered(where, member.size)
        with replacing(dest, member.size, member.size) as new:
            seal = _write(archive, member, new, source, where)
            if _next(archive, source, dest):
                raise InputError(f"{source}: holds more than one file named {dest.name}")
            for number in given_back_wrong(new, seal, seal.blocks):
                raise failing_disk(dest, seal, number)
    return member.size


def _next(archive, source, dest):
    """The next member whose last name is that of `dest`, checked; None when there is no more."""
    with _reading(source):
        while member := archive.next():
            archive.members.clear()  # tarfile remembers them all
            path = PurePosixPath(member.name)
            if path.name == dest.name:
                if not member.isreg() or ".." in path.parts:
                    raise InputError(f"{source}: got '{one_line(member.name)[:300]}', "
                                     "expected a plain file that lies inside the archive; "
                                     "this one is a link, a folder or a device, or would lie outside")
                return member
    return None


def _write(archive, member, new, source, where):
    """Write the bytes of a member into the file `new`. Returns their Seal. Raises InputError unless
    they are what it says."""
    length, _ = covered(where, member.size)
    sums, stream = [], archive.extractfile(member)

    def read(count):
        with _reading(source):
            return stream.read(count)

    with open(new, "r+b") as file:
        for start in range(0, length, BLOCK):
            data = read(min(BLOCK, length - start))
            sums.append(zlib.crc32(data))
            file.write(data)
        tail = read(member.size - length)
        file.write(tail)
    seal = parse_seal(where, member.size, tail)
    for number in np.flatnonzero(seal.sums != np.array(sums, np.uint32)):
        raise damaged(where, *seal.span(number))
    return seal


@contextmanager
def _reading(source):
    """What a damaged archive makes tarfile raise becomes an InputError."""
    try:
        with damage(source):
            yield
    except tarfile.TarError as error:
        text = one_line(error)
        problem = ("it is none, or damaged" if "opened successfully" in text or text == "bad checksum"
                   else text[:300])
        raise InputError(f"{source}: cannot read it as a tar: {problem}") from None
