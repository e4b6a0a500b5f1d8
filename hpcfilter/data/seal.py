"""The seal of a finished file: checksums of every byte of it, behind its end.

    file bytes | CRC-32 (uint32, little endian) of each MiB of them
               | magic, number of file bytes (uint64), CRC-32 of the checksums and of these two

The readers of HDF5 go by the end that the file itself declares and ignore what lies behind it; a program that
opens the file for writing cuts the seal off. A CRC-32 finds any change of up to 32 bits in a row for certain,
and any other but one in 2**32.
"""

import os
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from hpcfilter.base.alive import pulse
from hpcfilter.base.errors import InputError
from hpcfilter.base.shard import shard
from hpcfilter.data.distrust import damage

BLOCK = 1 << 20  # bytes that one checksum covers
_END, _MAGIC = struct.Struct("<8sQI"), b"hpcfSEAL"


@dataclass
class Seal:
    """What a seal says: sums, uint32 (n,), of its n blocks; length, the bytes that they cover; tail, the seal
    itself as it stands in the file."""

    sums: np.ndarray
    length: int
    tail: bytes

    @property
    def size(self):
        """Bytes of the sealed file."""
        return self.length + len(self.tail)

    @property
    def blocks(self):
        """The numbers of all blocks. The seal itself counts as one, and comes first: it tells
        most files from others."""
        return [len(self.sums), *range(len(self.sums))]

    def span(self, number):
        """The bytes at which a block begins and ends."""
        start = min(int(number) * BLOCK, self.length)
        return start, min(start + BLOCK, self.length) if number < len(self.sums) else self.size

    def read(self, file, number):
        """Read a block of an open file. Returns (bytes, whether they are what the seal
        says). Raises OSError."""
        start, stop = self.span(number)
        file.seek(start)
        data = file.read(stop - start)
        pulse.beat()
        return data, zlib.crc32(data) == self.sums[number] if number < len(self.sums) else data == self.tail

    def wrong(self, file, blocks):
        """The numbers of those of `blocks` that are not in an open file what the seal says; yielded as they
        are found. Raises OSError."""
        return (number for number in blocks if not self.read(file, number)[1])


def seal(path):
    """Append the seal to a finished file and bring it to the disk. Raises OSError."""
    with open(path, "r+b") as file:
        sums = bytearray()
        while block := file.read(BLOCK):
            sums += struct.pack("<I", zlib.crc32(block))
            pulse.beat()
        length = file.tell()
        file.write(sums + _END.pack(_MAGIC, length, _end_sum(sums, length)))
        file.flush()
        os.fsync(file.fileno())


def read_seal(path):
    """Read the seal of a file, which must be whole and say how long the file is. Returns Seal. Raises
    InputError for any other file."""
    with damage(path), open(path, "rb") as file:
        return _read(path, file)


def check_seal(path, part=0, parts=1, inside=lambda start, stop: "", blocks=None):
    """Check the end of a file and this part of its blocks: `parts` ranks together read every byte of it once.

    inside: function (start, stop) -> str, what lies in these bytes, for the error. blocks: numbers of the
    blocks to check instead, ints. Raises InputError that names the damaged bytes; for a file that is
    missing or cannot be read too.
    """
    with damage(path), open(path, "rb") as file:
        found = _read(path, file)
        for number in found.wrong(file, shard(len(found.sums), part, parts) if blocks is None else blocks):
            raise damaged(path, *found.span(number), inside)


def damaged(path, start, stop, inside=lambda start, stop: ""):
    """The InputError for bytes [start, stop) of a file that do not fit their checksum. Returns it, to be
    raised. inside: as in `check_seal`."""
    return InputError(f"{path}: bytes {start} to {stop - 1} {inside(start, stop)}differ from their checksum; "
                      "the file is damaged, make it anew")


def covered(path, size):
    """How many bytes a seal covers in a file of `size` bytes that ends with one, and in how many blocks.
    Raises InputError when none can."""
    blocks = -(-(size - _END.size) // (BLOCK + 4))
    length = size - _END.size - 4 * blocks
    if length < 0 or -(-length // BLOCK) != blocks:
        raise _unsealed(path, size)
    return length, blocks


def parse_seal(path, size, tail):
    """Make sense of a seal. size: bytes of the whole file. tail: bytes of the seal. Returns Seal. Raises
    InputError, which begins with `path`."""
    length, _ = covered(path, size)
    sums, end = tail[: -_END.size], tail[-_END.size :].rjust(_END.size, b"\0")
    magic, said, end_sum = _END.unpack(end)
    if magic != _MAGIC or said != length or length + len(tail) != size:
        raise _unsealed(path, size)
    if _end_sum(sums, length) != end_sum:
        raise InputError(f"{path}: the seal in bytes {length} to {size - 1} is damaged; make the file anew")
    return Seal(np.frombuffer(sums, "<u4"), length, tail)


def blocks_with_holes(path):
    """The numbers of the blocks that the file system does not hold in full, and reads as zeros instead.
    Returns int64 (m,), ascending.

    Empty where the file system knows of no holes. Raises InputError for a file that is missing.
    """
    found = [np.zeros(0, np.int64)]
    with damage(path), open(path, "rb", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        start = stop = 0
        while (start := _seek(file, stop, os.SEEK_HOLE, size)) < size:
            stop = _seek(file, start, os.SEEK_DATA, size)
            found.append(np.arange(start // BLOCK, -(-stop // BLOCK)))
    return np.unique(np.concatenate(found))


def _seek(file, start, whence, size):
    """Where the next hole begins or ends, from byte `start` on; `size` if nowhere, or nobody can say."""
    try:
        return file.seek(start, whence)
    except OSError:
        return size


def _read(path, file):
    size = file.seek(0, os.SEEK_END)
    file.seek(covered(path, size)[0])
    return parse_seal(path, size, file.read())


def _unsealed(path, size):
    return InputError(f"{path}: its {size} bytes do not end with a seal: it is truncated or changed, "
                      "or of an earlier version; pack it again, or make it anew")


def _end_sum(sums, length):
    return zlib.crc32(_MAGIC + struct.pack("<Q", length), zlib.crc32(sums))
