"""The seal of a finished file: checksums of every byte of it, behind its end.

    file bytes | CRC-32 (uint32, little endian) of each MiB of them | magic, number of file bytes (uint64), CRC-32 of the checksums and of these two

The readers of HDF5 go by the end that the file itself declares and ignore what lies behind it; a program that opens the file for writing cuts
the seal off. A CRC-32 finds any change of up to 32 bits in a row for certain, and any other but one in 2**32.
"""

import os
import struct
import zlib

import numpy as np

from hpcfilter import pulse
from hpcfilter.data.distrust import damage
from hpcfilter.data.shard import edges
from hpcfilter.errors import InputError

BLOCK = 1 << 20  # bytes that one checksum covers
_END, _MAGIC = struct.Struct("<8sQI"), b"hpcfSEAL"


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


def check_end(path):
    """Check that a file ends with a whole seal and is as long as that says. Raises InputError for any other."""
    with damage(path), open(path, "rb") as file:
        _read_end(path, file)


def check_seal(path, part=0, parts=1, inside=lambda start, stop: ""):
    """Check the end of a file and this part of its blocks: `parts` ranks together read every byte of it once.

    inside: function (start, stop) -> str, what lies in these bytes, for the error.
    Raises InputError that names the damaged bytes; for a file that is missing or cannot be read too.
    """
    with damage(path), open(path, "rb") as file:
        sums, length = _read_end(path, file)
        first, last = (int(edge) for edge in edges(len(sums), parts)[part : part + 2])
        file.seek(first * BLOCK)
        for number in range(first, last):
            start, stop = number * BLOCK, min((number + 1) * BLOCK, length)
            if zlib.crc32(file.read(stop - start)) != sums[number]:
                raise InputError(f"{path}: bytes {start} to {stop - 1} {inside(start, stop)}differ from their checksum; "
                                 "the file is damaged, make it anew")
            pulse.beat()


def _read_end(path, file):
    """(checksums of the blocks, length of what they cover), from a seal that is whole."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size))
    magic, length, end_sum = _END.unpack(file.read().rjust(_END.size, b"\0"))
    blocks = -(-length // BLOCK)
    if magic != _MAGIC or length + 4 * blocks + _END.size != size:
        raise InputError(f"{path}: its {size} bytes do not end with a seal: it is truncated or changed, or of an earlier version; "
                         "pack it again, or make it anew")
    file.seek(length)
    sums = file.read(4 * blocks)
    if _end_sum(sums, length) != end_sum:
        raise InputError(f"{path}: the seal in bytes {length} to {size - 1} is damaged; make the file anew")
    return np.frombuffer(sums, "<u4"), length


def _end_sum(sums, length):
    return zlib.crc32(_MAGIC + struct.pack("<Q", length), zlib.crc32(sums))
