"""Chunked arrays of an HDF5 file, decoded here: the library is asked only for a chunk's stored bytes.

Its own filters inflate a stream to whatever size that has, and where a chunk comes out too short it reads on
behind its end (HDF5 2.0).
"""

import itertools
import math
import zlib

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.data.hdf5 import FILTERS


class Chunked:
    """Array-like with shape, dtype and slices along the first axis. data: chunked, found by `find_array`.
    Damaged chunks are InputErrors."""

    def __init__(self, data):
        creation = data.id.get_create_plist()
        self.shape, self.dtype, self.chunk_rows = data.shape, data.dtype, data.chunks[0]
        self._data, self._sides, self._where = data.id, data.chunks, f"{data.file.filename}: {data.name[1:]}"
        # corner and array of the chunk that was decoded last: a chunk of labels is wanted by
        # many slices in a row
        self._last = None, None
        self._filters = [FILTERS[creation.get_filter(number)[0]] for number in range(creation.get_nfilters())]

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(self.shape[0])
        array = np.empty((stop - start, *self.shape[1:]), self.dtype)
        begins = [range(0, side, chunk) for side, chunk in zip(self.shape, self._sides, strict=True)]
        begins[0] = range(start // self.chunk_rows * self.chunk_rows, stop, self.chunk_rows)
        for corner in itertools.product(*begins):
            chunk = self._chunk(corner)[max(0, start - corner[0]) :]
            place = (max(0, corner[0] - start), *corner[1:])
            target = array[tuple(slice(at, at + side) for at, side in zip(place, chunk.shape, strict=True))]
            # a chunk may reach beyond the array
            target[...] = chunk[tuple(slice(side) for side in target.shape)]
        return array

    def _chunk(self, corner):
        """The chunk that begins at the index `corner`, in its full size."""
        if self._last[0] != corner:
            try:
                self._last = corner, self._decode(corner)
            except (ValueError, IndexError, zlib.error) as error:
                said = str(error) if type(error) is ValueError else "a damaged stream"
                raise InputError(f"{self._where}: the chunk at {corner}: {said}; "
                                 "the file is damaged") from error
        return self._last[1]

    def _decode(self, corner):
        """A chunk from its stored bytes."""
        skipped, data = self._data.read_direct_chunk(corner)
        expected = math.prod(self._sides) * self.dtype.itemsize
        for number, name in reversed(list(enumerate(self._filters))):
            # a filter may have been left out of this chunk, as one that would not shrink it
            if not skipped >> number & 1:
                # 4: perhaps with the sum of fletcher32
                data = _DECODERS[name](data, expected + 4, self.dtype.itemsize)
        if len(data) != expected:
            raise ValueError(f"holds {len(data)} bytes, expected {expected}")
        return np.frombuffer(data, self.dtype).reshape(self._sides)


# Each undoes one filter. data: bytes; limit: as many may come out; item: bytes of a number.

def _inflate(data, limit, item):
    stream = zlib.decompressobj()
    inflated = stream.decompress(data, limit)
    if not stream.eof and (stream.decompress(stream.unconsumed_tail, 1) or not stream.eof):
        raise ValueError(f"a gzip stream that holds less than it should, or more than {limit} bytes")
    return inflated


def _unshuffle(data, limit, item):
    """All first bytes of the numbers stand together, then all second ones...; what is no whole
    number stays at the end."""
    whole = len(data) // item * item
    return np.frombuffer(data, np.uint8, whole).reshape(item, -1).T.tobytes() + data[whole:]


def _check_fletcher32(data, limit, item):
    """Two sums, modulo 65535, of the big-endian words: of the words, and of all sums so far; the last
    byte may be half a word."""
    data, stored = data[:-4], int.from_bytes(data[-4:], "little")
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(np.uint64)
    weights = np.arange(len(words), 0, -1, dtype=np.uint64) % np.uint64(65535)
    sums = int(words.sum()) % 65535, int(np.dot(words, weights)) % 65535
    if sums != (stored % 65536 % 65535, (stored >> 16) % 65535):
        raise ValueError("a chunk differs from its checksum (fletcher32)")
    return data


def _unpack_lzf(data, limit, item):
    """LibLZF: runs of up to 32 bytes as they are, and copies of up to 264 bytes from at most 8 KiB before."""
    out, at = bytearray(), 0
    while at < len(data) and len(out) <= limit:
        control, at = data[at], at + 1
        if control < 32:
            out += data[at : at + control + 1]
            at += control + 1
            continue
        count = control >> 5
        if count == 7:
            count, at = count + data[at], at + 1
        back, at = (control & 31) * 256 + data[at] + 1, at + 1
        if back > len(out):
            raise ValueError("an LZF stream that refers to bytes before its beginning")
        piece = out[-back : len(out) - back + count + 2]
        out += (piece * (-(-(count + 2) // len(piece))))[: count + 2]
    return bytes(out)


_DECODERS = {"gzip": _inflate, "shuffle": _unshuffle, "fletcher32": _check_fletcher32, "lzf": _unpack_lzf}
