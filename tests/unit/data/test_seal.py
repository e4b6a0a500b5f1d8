"""The seal: nothing of a sealed file can change unnoticed, and ranks together read every byte of it once."""

import os

import h5py
import numpy as np
import pytest

from hpcfilter.base.alive import pulse
from hpcfilter.base.errors import InputError
from hpcfilter.comm.threads import run
from hpcfilter.data import read_table, write_table
from hpcfilter.data.seal import BLOCK, check_seal, read_seal, seal

RNG = np.random.default_rng(0)
LENGTHS = (0, 1, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 12345)


def sealed(path, length):
    path.write_bytes(RNG.bytes(length))
    seal(path)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sealed file of four blocks."""
    return sealed(tmp_path_factory.mktemp("seal") / "whole", LENGTHS[-1])


def refused(path, parts=1):
    """Which of the parts refuse the file."""
    found = []
    for part in range(parts):
        try:
            check_seal(path, part, parts)
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            found.append(part)
    return found


@pytest.mark.parametrize("length", LENGTHS)
def test_a_sealed_file_is_accepted_and_begins_with_its_bytes(tmp_path, length):
    path = tmp_path / "f"
    data = RNG.bytes(length)
    path.write_bytes(data)
    seal(path)
    read_seal(path)
    assert not any(refused(path, parts) for parts in (1, 2, 3, 8))
    assert path.read_bytes()[:length] == data and path.stat().st_size == length + 4 * -(-length // BLOCK) + 20


@pytest.mark.parametrize("length", [0, 1000, BLOCK + 1])
def test_any_bit_of_a_small_seal(tmp_path, length):
    path = sealed(tmp_path / "f", length)
    data = path.read_bytes()
    for bit in range(8 * length, 8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(InputError):
            read_seal(path)


def test_any_bit_anywhere_is_found_and_placed(tmp_path, whole):
    path, data, body = tmp_path / "f", bytearray(whole.read_bytes()), LENGTHS[-1]
    for where in RNG.integers(0, body, 60):
        data[where] ^= (flip := 1 << int(RNG.integers(8)))
        path.write_bytes(data)
        data[where] ^= flip
        block = int(where) // BLOCK
        assert refused(path, 4) == [block], "each of the four parts has one block"
        with pytest.raises(InputError, match=f"bytes {block * BLOCK} to {min((block + 1) * BLOCK, body) - 1} "
                                             "of the tests differ"):
            check_seal(path, inside=lambda start, stop: "of the tests ")


def test_bits_of_the_seal_are_found_by_every_part(tmp_path, whole):
    path, data = tmp_path / "f", bytearray(whole.read_bytes())
    for where in (LENGTHS[-1], LENGTHS[-1] + 15, -20, -12, -1):
        data[where] ^= 1
        path.write_bytes(data)
        data[where] ^= 1
        assert refused(path, 3) == [0, 1, 2]


def test_truncated_and_grown_files(tmp_path, whole):
    path, data = tmp_path / "f", whole.read_bytes()
    lengths = [0, 1, 19, 20, 36, BLOCK, LENGTHS[-1], len(data) - 1, len(data) - 4, len(data) - 20,
               *(int(n) for n in RNG.integers(0, len(data), 100))]
    for length in lengths:
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match="do not end with a seal"):
            read_seal(path)
    for more in (b"\0", b"\0" * 20, RNG.bytes(1000), data[-20:], data[-36:]):
        path.write_bytes(data + more)
        assert refused(path, 2) == [0, 1]


def test_what_is_no_file(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match="cannot read"):
            check_seal(path)


@pytest.mark.parametrize("length", LENGTHS[1:])
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_parts_read_every_byte_once(tmp_path, length, parts):
    """Once: what is changed in a byte is found by one part, so no other one has read it."""
    path = sealed(tmp_path / "f", length)
    data = bytearray(path.read_bytes())
    for block in range(0, length, BLOCK):
        for where in (block, min(block + BLOCK, length) - 1):
            data[where] ^= 1
            path.write_bytes(data)
            data[where] ^= 1
            assert len(refused(path, parts)) == 1


def test_the_check_shows_signs_of_life(whole, monkeypatch):
    beats = []
    monkeypatch.setattr(pulse, "beat", lambda: beats.append(1))
    check_seal(whole)
    assert len(beats) == 4


def test_hdf5_reads_a_sealed_file_and_cuts_the_seal_off_when_it_writes(tmp_path):
    path = tmp_path / "f.h5"
    values = RNG.random(1000)
    with h5py.File(path, "w") as file:
        file["x"] = values
    size = os.path.getsize(path)
    seal(path)
    with h5py.File(path) as file:
        assert np.array_equal(file["x"][:], values)
    check_seal(path)
    with h5py.File(path, "r+") as file:
        file["x"][0] = 2
    assert os.path.getsize(path) == size and refused(path) == [0]


def test_what_one_rank_finds_all_ranks_raise(tmp_path):
    """Each of the ranks checks its blocks and reads its rows; the others read what one of them
    has found to be damaged."""
    rows = 3 * BLOCK // 4
    write_table(tmp_path / "t.h5", rows, {"importance": (np.float32, [RNG.random(rows, np.float32)])},
                {"data": "any"})
    path, whole = tmp_path / "damaged.h5", (tmp_path / "t.h5").read_bytes()

    def read(comm):
        try:
            with comm.together():
                return len(read_table(path, part=(comm.rank, comm.size))[0]["importance"])
        except InputError as error:
            return error.shared, str(error)

    for where in (100, 2000, BLOCK + 5, 3 * BLOCK, len(whole) - 30):
        path.write_bytes(whole[:where] + bytes([whole[where] ^ 1]) + whole[where + 1 :])
        for ranks in (1, 2, 3, 8):
            results = run(ranks, read)
            assert len(set(results)) == 1 and results[0][0] is True and "damaged.h5" in results[0][1]
    path.write_bytes(whole)
    assert sum(run(3, read)) == rows
