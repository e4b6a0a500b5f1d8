"""Staging: what lies on a node is the source, bit for bit, or the part of it that the node's ranks read; else nothing lies there."""

import contextlib
import gzip
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
from conftest import TIMEOUT

from hpcfilter.data import archive, node_disk, open_packed, read_table, shard
from hpcfilter.data import stage as staging
from hpcfilter.data.pack import pack
from hpcfilter.data.packed import Dataset, Split
from hpcfilter.data.seal import BLOCK, Seal, blocks_with_holes, read_seal
from hpcfilter.data.stage import stage
from hpcfilter.errors import Failure, InputError
from hpcfilter.report import read_run

RNG = np.random.default_rng(0)
NODES, PER_NODE = 2, 2
RANKS = NODES * PER_NODE


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """2880 training and 720 test rows of 2048 float32, 28 MiB in all, of 3 classes."""
    folder = tmp_path_factory.mktemp("vectors")
    y = RNG.integers(0, 3, 3600)
    np.savez(folder / "source.npz", x=(RNG.normal(size=(3600, 2048)) + 0.1 * y[:, None]).astype(np.float32), y=y)
    pack(folder / "source.npz", folder / "packed.h5")
    return folder / "packed.h5"


@pytest.fixture
def node(tmp_path):
    """The path on a node that files are staged to."""
    return tmp_path / "node" / "packed.h5"


def flip(path, where):
    with open(path, "r+b") as file:
        file.seek(where)
        byte = file.read(1)[0]
        file.seek(where)
        file.write(bytes([byte ^ 1]))


def beside(path):
    """The names in the folder of a file."""
    return sorted(os.listdir(path.parent)) if path.parent.exists() else []


def staged_part(vectors, folder):
    """A part for each node, in FOLDER/nodeN/packed.h5, with every byte that is a hole made 0xff."""
    for number in range(NODES):
        path = folder / f"node{number}" / "packed.h5"
        stage(vectors, path, "copy", number, (NODES, PER_NODE))
        seal, held = read_seal(path), set(open_packed(vectors).blocks(number * PER_NODE, (number + 1) * PER_NODE, RANKS))
        with open(path, "r+b") as file:
            for block in set(range(len(seal.sums))) - held:
                start, stop = seal.span(block)
                file.seek(start)
                file.write(b"\xff" * (stop - start))
    return folder


# ---- copies

@pytest.mark.parametrize("name", ["digits", "vectors"])
def test_a_copy_is_the_file_and_is_kept(name, node, request, monkeypatch):
    source = request.getfixturevalue(name)
    monkeypatch.setenv("NODE_STORAGE", str(node.parent))
    size = source.stat().st_size
    line = stage(source, "${NODE_STORAGE}/packed.h5")
    assert re.fullmatch(rf"node 0 \(.+\): {node}: copied {size} of {size} bytes of {source} in [\d.]+ s, [\d.]+ GB/s", line)
    assert node.read_bytes() == source.read_bytes() and beside(node) == ["packed.h5"]
    before = node.stat()
    assert f"kept what was there, checked {size} of {size} bytes" in stage(source, node)
    assert (node.stat().st_ino, node.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("spoil", [
    lambda path, source: path.write_bytes(b""),
    lambda path, source: path.write_bytes(source.read_bytes()[:-1]),
    lambda path, source: flip(path, 5 * BLOCK + 7),
    lambda path, source: flip(path, path.stat().st_size - 30),
    lambda path, source: pack(source.with_name("source.npz"), path, seed=1, replace=True),  # as long, with other bytes
])
def test_what_is_not_the_source_is_replaced(vectors, node, spoil):
    stage(vectors, node)
    spoil(node, vectors)
    assert ": copied " in stage(vectors, node)
    assert node.read_bytes() == vectors.read_bytes() and beside(node) == ["packed.h5"]


def test_damage_of_the_source_is_named_and_nothing_is_staged(vectors, tmp_path, node):
    source, seal = tmp_path / "source.h5", read_seal(vectors)
    rows = r"bytes {} to \d+ \(.*rows.*differ from their checksum"
    for where, message in ((3 * BLOCK, rows.format(3 * BLOCK)), (13 * BLOCK - 1, rows.format(12 * BLOCK)), (300, "cannot read|differ"),
                           (seal.length - 1, "cannot read|differ"), (seal.length + 5, "the seal in bytes .* is damaged"), (seal.size - 1, "seal")):
        shutil.copyfile(vectors, source)
        flip(source, where)
        with pytest.raises(InputError, match=rf"source.h5: .*({message})"):
            stage(source, node)
        assert beside(node) == []
    for length in (0, 1000, seal.size - 1):
        source.write_bytes(vectors.read_bytes()[:length])
        with pytest.raises(InputError, match="source.h5"):
            stage(source, node)
    with pytest.raises(InputError, match="missing.h5: cannot read"):
        stage(tmp_path / "missing.h5", node)


def test_a_damaged_source_does_not_touch_what_is_there(vectors, tmp_path, node):
    shutil.copyfile(vectors, tmp_path / "source.h5")
    flip(tmp_path / "source.h5", 9 * BLOCK)
    node.parent.mkdir()
    node.write_bytes(b"older")
    with pytest.raises(InputError, match="differ from their checksum"):
        stage(tmp_path / "source.h5", node)
    assert node.read_bytes() == b"older" and beside(node) == ["packed.h5"]


@pytest.mark.parametrize("times", [1, 2])
def test_what_the_disk_gives_back_wrong_is_written_once_more(vectors, node, monkeypatch, times):
    """A bit of the copy flips before it is read back: once, and it is mended; again, and the disk is given up."""
    done = []

    def bad_disk(path, seal, blocks):
        if os.path.exists(path) and len(done) < times:
            flip(path, 7 * BLOCK + 3)
            done.append(list(blocks))
        yield from node_disk.given_back_wrong(path, seal, blocks)

    monkeypatch.setattr(staging, "given_back_wrong", bad_disk)
    with pytest.raises(Failure, match=f"packed.h5: bytes {7 * BLOCK} to {8 * BLOCK - 1} were right when they were written, and are wrong") \
            if times > 1 else contextlib.nullcontext():
        stage(vectors, node)
    assert len(done) == times and done[1:] == [[7]] * (times - 1), "only the wrong block is written again"
    assert beside(node) == ["packed.h5"] * (times == 1) and (times > 1 or node.read_bytes() == vectors.read_bytes())


def test_a_disk_without_room(vectors, small_disk, monkeypatch):
    node, size = small_disk(20 << 10) / "deep" / "packed.h5", vectors.stat().st_size
    message = rf"packed.h5: needs {size} bytes, but \d+ are free in .*deep on "
    with pytest.raises(Failure, match=message):
        stage(vectors, node)
    assert beside(node) == []
    stage(vectors, node, "copy", 0, (NODES, PER_NODE))  # half of it has room
    part = node.read_bytes()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40))  # another job takes the room meanwhile
    with pytest.raises(Failure, match="packed.h5: No space left on device on "):
        stage(vectors, node)
    assert beside(node) == ["packed.h5"] and node.read_bytes() == part
    packed_in = node.parent.parent.parent / "a.tar"
    with tarfile.open(packed_in, "w") as tar:
        tar.add(vectors, "packed.h5")
    with pytest.raises(Failure, match="packed.h5: No space left on device on "):
        stage(packed_in, node, "tar")
    monkeypatch.undo()
    with pytest.raises(Failure, match=message):
        stage(packed_in, node, "tar")
    assert beside(node) == ["packed.h5"] and node.read_bytes() == part


def test_places_that_cannot_be_written(vectors, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="file/packed.h5: (Not a directory|File exists) on "):
        stage(vectors, tmp_path / "file" / "packed.h5")
    with pytest.raises(InputError, match="is a folder, expected the path of a file"):
        stage(vectors, tmp_path)
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(InputError, match=r"got \$\{NOT_SET\}/packed.h5 on .*: a variable in it is not set there"):
        stage(vectors, "${NOT_SET}/packed.h5")
    with pytest.raises(InputError, match="got 'rsync', expected copy, tar or check"):
        stage(vectors, tmp_path / "p.h5", "rsync")
    with pytest.raises(InputError, match="cannot read"):
        stage(__file__, tmp_path / "p.h5")


# ---- killed, and several at once

def process(source, dest, patch=""):
    code = f"from hpcfilter.data import stage as s, node_disk\nimport time, pathlib\n{patch}\nprint(s.stage({str(source)!r}, {str(dest)!r}))"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(child):
    out, err = child.communicate(timeout=TIMEOUT)
    assert child.returncode == 0, err
    return out


@contextlib.contextmanager
def hanging(source, dest):
    """A process that has written all, and hangs before it is read back."""
    child = process(source, dest, "s.given_back_wrong = lambda *_: (time.sleep(10 * 60), [])[1]")
    try:
        end = time.monotonic() + TIMEOUT
        while not any(path.stat().st_blocks * 512 >= source.stat().st_size for path in dest.parent.glob("*.staging-*")):
            assert child.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        yield child
    finally:
        child.kill()
        child.communicate(timeout=TIMEOUT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_copy_leaves_a_temporary_that_the_next_one_removes(vectors, node, number):
    with hanging(vectors, node) as child:
        child.send_signal(number)
        child.wait(timeout=TIMEOUT)
    (left,) = beside(node)
    assert left.startswith("packed.h5.staging-")
    stage(vectors, node)
    assert beside(node) == ["packed.h5"] and node.read_bytes() == vectors.read_bytes()


def test_the_temporary_of_a_process_at_work_stays(vectors, node):
    with hanging(vectors, node):
        (left,) = beside(node)
        stage(vectors, node)
        assert beside(node) == ["packed.h5", left]


def test_many_at_once(vectors, node):
    """Each of them begins with a leftover to remove and with the others' new files beside it."""
    node.parent.mkdir()
    (node.parent / "packed.h5.staging-000000000000").write_bytes(b"left")
    children = [process(vectors, node) for _ in range(6)]
    lines = [ended(child) for child in children]
    assert all(": copied " in line or ": kept " in line for line in lines)
    assert beside(node) == ["packed.h5"] and node.read_bytes() == vectors.read_bytes()


# ---- archives

def tar(path, *members, mode="w", **form):
    """members: (name, bytes or attributes of a header without data)."""
    with tarfile.open(path, mode, **form) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, dict):
                for key, value in content.items():
                    setattr(member, key, value)
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("name", ["packed.h5", "./data/packed.h5", "/data/packed.h5"])
def test_a_file_out_of_an_archive(digits, tmp_path, node, kind, name):
    if kind == "zst" and "zst" not in tarfile.TarFile.OPEN_METH:
        pytest.skip("this Python has no zstd")
    data = digits.read_bytes()
    path = tar(tmp_path / "data.tar", ("readme", b"x"), ("packed.h5.old", b"y"), (name, data), ("last", b"z" * 5000), mode=f"w:{kind}")
    assert f": unpacked {len(data)} of {len(data)} bytes of {path} in " in stage(path, node, "tar")
    assert node.read_bytes() == data and beside(node) == ["packed.h5"]


def test_a_large_file_out_of_an_archive_and_its_damage(vectors, tmp_path, node):
    data = vectors.read_bytes()
    path = tar(tmp_path / "data.tar", ("packed.h5", data))
    stage(path, node, "tar")
    assert node.read_bytes() == data
    start = path.read_bytes().index(data[:64])
    for where in (0, 4 * BLOCK, read_seal(vectors).length - 1):
        flip(path, start + where)
        block = where // BLOCK
        with pytest.raises(InputError, match=f"data.tar: packed.h5: bytes {block * BLOCK} to .* differ from their checksum"):
            stage(path, node.with_name("other") / "packed.h5", "tar")
        flip(path, start + where)
    flip(path, start + len(data) - 25)
    with pytest.raises(InputError, match="data.tar: packed.h5: .*seal"):
        stage(path, node.with_name("other") / "packed.h5", "tar")
    assert beside(node.with_name("other") / "packed.h5") == []


def test_a_disk_that_gives_an_unpacked_file_back_wrong(vectors, tmp_path, node, monkeypatch):
    path = tar(tmp_path / "data.tar", ("packed.h5", vectors.read_bytes()))

    def bad_disk(new, seal, blocks):
        flip(new, 2 * BLOCK)
        yield from node_disk.given_back_wrong(new, seal, blocks)

    monkeypatch.setattr(archive, "given_back_wrong", bad_disk)
    with pytest.raises(Failure, match=f"packed.h5: bytes {2 * BLOCK} to {3 * BLOCK - 1} were right when they were written"):
        stage(path, node, "tar")
    assert beside(node) == []


HOSTILE = {
    "outside": ([("../../packed.h5", b"DATA")], "got .*packed.h5., expected a plain file that lies inside"),
    "a symbolic link": ([("packed.h5", {"type": tarfile.SYMTYPE, "linkname": "secret"})], "expected a plain file that lies inside"),
    "a symbolic link to elsewhere": ([("packed.h5", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})], "expected a plain file that lies inside"),
    "a hard link": ([("packed.h5", {"type": tarfile.LNKTYPE, "linkname": "secret"})], "expected a plain file that lies inside"),
    "a device": ([("packed.h5", {"type": tarfile.CHRTYPE})], "expected a plain file that lies inside"),
    "a pipe": ([("packed.h5", {"type": tarfile.FIFOTYPE})], "expected a plain file that lies inside"),
    "a folder": ([("packed.h5", {"type": tarfile.DIRTYPE})], "expected a plain file that lies inside"),
    "two of the name": ([("a/packed.h5", b"DATA"), ("b/packed.h5", b"DATA")], "more than one file named packed.h5"),
    "a file and a link": ([("packed.h5", b"DATA"), ("packed.h5", {"type": tarfile.SYMTYPE, "linkname": "secret"})], "expected a plain file"),
    "none": ([("other.h5", b"DATA")], "holds no file named packed.h5"),
    "empty": ([("packed.h5", b"")], "packed.h5: its 0 bytes do not end with a seal"),
    "no packed file": ([("packed.h5", b"x" * 1000)], "packed.h5: its 1000 bytes do not end with a seal"),
    "declares much more than it holds": ([("packed.h5", {"size": 1 << 50})], "stored bytes declare to become 1125899906842624"),
    "declares more than it holds": ([("packed.h5", {"size": 10 << 20})], "unexpected end of data"),
    "declares less than nothing": ([("packed.h5", {"size": -(1 << 20)})], "do not end with a seal"),
    "goes backwards": ([("other", {"size": -2048}), ("packed.h5", b"DATA")], "cannot read it as a tar|holds no file"),
    "a long header": ([("other", {"type": b"K", "size": 1 << 40}), ("packed.h5", b"DATA")], "a header of 1099511627776 bytes"),
}


@pytest.mark.parametrize("kind", ["", "gz"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive(digits, tmp_path, node, name, kind):
    members, message = HOSTILE[name]
    data = digits.read_bytes()
    path = tar(tmp_path / "data.tar", *((member, data if content == b"DATA" else content) for member, content in members),
               mode=f"w:{kind}", format=tarfile.GNU_FORMAT)
    node.parent.mkdir()
    (node.parent / "secret").write_bytes(b"secret")
    before = {entry for entry in tmp_path.rglob("*")}
    with pytest.raises(InputError, match=f"data.tar: .*({message})") as caught:
        stage(path, node, "tar")
    assert {entry for entry in tmp_path.rglob("*")} == before and len(str(caught.value)) < 1000
    assert (node.parent / "secret").read_bytes() == b"secret"


def test_a_bomb_of_zeros(tmp_path, node):
    """What a gzip of some KiB says that it becomes is enough."""
    path = tmp_path / "data.tar"
    header = tarfile.TarInfo("packed.h5")
    header.size = 2 << 30
    with gzip.open(path, "wb", 1) as file:
        file.write(header.tobuf())
        for _ in range(64):
            file.write(bytes(1 << 20))
    with pytest.raises(InputError, match="stored bytes declare to become 2147483648, expected at most 200 times as many"):
        stage(path, node, "tar")
    assert beside(node) == []


@pytest.mark.parametrize("kind", ["", "gz", "xz"])
def test_archives_cut_anywhere(digits, tmp_path, node, kind):
    whole = tar(tmp_path / "data.tar", ("readme", b"x" * 3000), ("packed.h5", digits.read_bytes()), mode=f"w:{kind}").read_bytes()
    cut = tmp_path / "cut.tar"
    for length in (0, 100, 600, *(int(n) for n in RNG.integers(0, len(whole) * 9 // 10, 20))):
        cut.write_bytes(whole[:length])
        try:
            stage(cut, node, "tar")
        except InputError as error:
            assert str(error).startswith(f"{cut}: ") and beside(node) == []
        else:
            assert node.read_bytes() == digits.read_bytes(), "only padding was cut"
            node.unlink()


# ---- a file that sbcast has brought

def test_a_file_that_something_else_has_brought(vectors, tmp_path, node):
    size = vectors.stat().st_size
    with pytest.raises(Failure, match="packed.h5: No such file or directory on "):
        stage(vectors, node, "check")
    node.parent.mkdir()
    shutil.copyfile(vectors, node)
    assert f": checked {size} of {size} bytes of {vectors} in " in stage(vectors, node, "check")
    flip(node, 11 * BLOCK)
    with pytest.raises(Failure, match=f"packed.h5: bytes {11 * BLOCK} to {12 * BLOCK - 1} differ from those of {vectors}: the copy is damaged"):
        stage(vectors, node, "check")
    damaged = tmp_path / "damaged.h5"
    shutil.copyfile(node, damaged)
    with pytest.raises(InputError, match=rf"damaged.h5: bytes {11 * BLOCK} to {12 * BLOCK - 1} \(.*rows.*\) differ from their checksum"):
        stage(damaged, node, "check")
    os.truncate(node, size - 1)
    with pytest.raises(Failure, match=f"packed.h5: got {size - 1} bytes, expected {size}"):
        stage(vectors, node, "check")
    assert node.stat().st_size == size - 1, "it is not for us to remove it"
    for method in ("check", "tar"):
        with pytest.raises(InputError, match=f"part: got method {method}, expected copy"):
            stage(vectors, node, method, 0, (1, 1))


# ---- parts

def test_a_part_holds_what_its_ranks_need_and_no_more(vectors, node):
    dataset, whole = open_packed(vectors), vectors.read_bytes()
    for number in range(NODES):
        blocks = set(dataset.blocks(number * PER_NODE, (number + 1) * PER_NODE, RANKS))
        line = stage(vectors, node, "copy", number, (NODES, PER_NODE))
        count = int(re.search(r"copied (\d+) of", line)[1])
        assert 0.45 < count / len(whole) < 0.65, "half of the rows, and the blocks that both nodes need"
        held = node.read_bytes()
        assert len(held) == len(whole) and node.stat().st_blocks * 512 <= count + BLOCK // 2, "the rest takes no room"
        for block in range(len(dataset.seal.sums)):
            start, stop = dataset.seal.span(block)
            assert held[start:stop] == (whole[start:stop] if block in blocks else bytes(stop - start))
        assert held[dataset.seal.length :] == whole[dataset.seal.length :] and beside(node) == ["packed.h5"]
        assert "kept what was there" in stage(vectors, node, "copy", number, (NODES, PER_NODE))
    assert ": copied " in stage(vectors, node, "copy", 0, (NODES, PER_NODE)), "the part of another node is not kept"
    assert ": copied " in stage(vectors, node), "nor is a part for the whole"
    assert "kept what was there" in stage(vectors, node, "copy", 1, (NODES, PER_NODE)), "but the whole for a part"


def test_parts_that_cannot_be(vectors, digits, node):
    for number in (-1, 2):
        with pytest.raises(InputError, match=f"part: got node {number} of 2 with 2 ranks, expected one process on each node"):
            stage(vectors, node, "copy", number, (2, 2))
    with pytest.raises(InputError, match="digits.h5: got 2000 ranks for 1438 training samples"):
        stage(digits, node, "copy", 0, (1000, 2))
    for part in ((0, 1), (1, 0)):
        with pytest.raises(InputError, match="part"):
            stage(vectors, node, "copy", 0, part)


def test_a_small_file_has_no_parts(digits, node):
    stage(digits, node, "copy", 1, (2, 2))
    assert node.read_bytes() == digits.read_bytes()


@pytest.mark.parametrize("poisoned", [True, False])
def test_a_part_is_good_for_its_own_ranks_in_shard_order_and_for_nobody_else(vectors, tmp_path, poisoned):
    """Whether the file is read in full or not: where it has holes it is."""
    if poisoned:
        staged_part(vectors, tmp_path)
    else:
        for number in range(NODES):
            stage(vectors, tmp_path / f"node{number}" / "packed.h5", "copy", number, (NODES, PER_NODE))

    def refused(number, order, ranks, verify):
        dataset, found = open_packed(tmp_path / f"node{number}" / "packed.h5"), []
        for rank in range(ranks):
            try:
                dataset.check(rank, ranks, verify, order)
            except InputError as error:
                assert "differ from their checksum" in str(error)
                found.append(rank)
        return found

    for verify in (True, False) if not poisoned else (True,):  # what was written over the holes only reading finds
        for number in range(NODES):
            assert refused(number, "shard", RANKS, verify) == ([2, 3] if number == 0 else [0, 1])
            assert refused(number, "shard", 1, verify) == [0] and refused(number, "global", 1, verify) == [0]
            assert refused(number, "shard", 3, verify) and refused(number, "shard", 8, verify)
            assert refused(number, "global", RANKS, verify)
            assert refused(number, "shard", 2, verify) == [1 - number], "one rank per node has the same rows"


def test_a_file_without_holes_is_not_read_when_it_need_not_be(vectors, tmp_path):
    path = tmp_path / "p.h5"
    shutil.copyfile(vectors, path)
    assert len(blocks_with_holes(path)) == 0
    flip(path, 3 * BLOCK)
    for order in ("shard", "global"):
        open_packed(path).check(0, 1, False, order)
        with pytest.raises(InputError, match="differ from their checksum"):
            open_packed(path).check(0, 1, True, order)


def test_holes_are_found(tmp_path):
    path = tmp_path / "f"
    with open(path, "wb") as file:
        for block in (1, 2, 5):
            file.seek(block * BLOCK)
            file.write(RNG.bytes(BLOCK))
        file.seek(7 * BLOCK + BLOCK // 2)
        file.write(b"end")
    assert blocks_with_holes(path).tolist() == [0, 3, 4, 6, 7]
    path.write_bytes(b"")
    assert len(blocks_with_holes(path)) == 0


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_ranks_in_shard_order_read_every_byte_and_what_they_work_with(vectors, tmp_path, ranks):
    path, dataset = tmp_path / "p.h5", open_packed(vectors)
    shutil.copyfile(vectors, path)
    copy = open_packed(path)
    for block in range(len(dataset.seal.sums)):
        flip(path, block * BLOCK + 5)
        found = []
        for rank in range(ranks):
            try:
                copy.check(rank, ranks, True, "shard")
            except InputError:
                found.append(rank)
        flip(path, block * BLOCK + 5)
        assert found == [rank for rank in range(ranks) if block in dataset.blocks(rank, rank + 1, ranks)] and found


@pytest.mark.parametrize("trial", range(30))
def test_blocks_by_brute_force(tmp_path, trial):
    """Arrays of any size at any place: what `blocks` says is what each byte's owner says."""
    rng = np.random.default_rng(trial)
    path, place, arrays = tmp_path / "f", int(rng.integers(0, 2 * BLOCK)), []
    for _ in ("train", "test"):
        rows = int(rng.integers(8, 3000))
        for row_bytes in (int(rng.choice([64, 3000, 8000])), 8, 8):
            arrays.append((place, rows, row_bytes))
            place += rows * row_bytes + int(rng.choice([0, 0, 64, BLOCK, 3 * BLOCK]))
    length = place + int(rng.integers(0, 100))
    with open(path, "wb") as file:
        file.truncate(length)
    maps = [np.memmap(path, np.uint8, "r", offset, (rows, row)) for offset, rows, row in arrays]
    seal = Seal(np.zeros(-(-length // BLOCK), np.uint32), length, b"")
    dataset = Dataset("f", Split("train", *maps[:3]), Split("test", *maps[3:]), [], "", None, None, "", seal)
    parts = int(rng.integers(1, 9))
    first = int(rng.integers(0, parts))
    last = int(rng.integers(first + 1, parts + 1))
    needed = np.ones(length, bool)
    for offset, rows, row in arrays:
        needed[offset : offset + rows * row] = False
    for offset, rows, row in arrays:
        for rank in range(first, last):
            own = shard(rows, rank, parts)
            needed[offset + own.start * row : offset + own.stop * row] = True
    expected = [block for block in range(len(seal.sums)) if needed[block * BLOCK : (block + 1) * BLOCK].any()]
    assert dataset.blocks(first, last, parts).tolist() == expected
    assert sorted(set().union(*(dataset.blocks(rank, rank + 1, parts) for rank in range(parts)))) == list(range(len(seal.sums)))


# ---- training on parts, on real ranks

@pytest.fixture
def on_nodes(tmp_path, program, vectors):
    """on_nodes(ranks, words): the command line on ranks whose nodes have a part each as packed.h5, poisoned where it has holes."""
    staged_part(vectors, tmp_path)
    return lambda ranks, *words: program(ranks, "own_folder", tmp_path, PER_NODE, *words)


TABLES = {"train": {"epochs": 2, "global_batch": 480, "deterministic": True}, "model": {"name": "mlp", "width": None},
          "filter": {"policy": "kakurenbo", "fraction": 0.3, "tau": 0.2}, "data": {"order": "shard"}}


def test_training_on_parts_gives_the_same_bits(tmp_path, vectors, config, hpcfilter, on_nodes):
    """Select, train, refresh, evaluate: none of them looks at a row that its rank does not own."""
    whole = hpcfilter(RANKS, "train", config(vectors, **TABLES), "--run-dir", tmp_path / "whole")
    parts = on_nodes(RANKS, "train", config("packed.h5", **TABLES), "--run-dir", tmp_path / "parts")
    assert whole.returncode == 0 and parts.returncode == 0, parts.stderr
    (_, epochs, end), (_, others, other_end) = read_run(tmp_path / "whole"), read_run(tmp_path / "parts")
    assert epochs[-1]["hidden"] and epochs[-1]["refreshed"]
    assert [row["selection"] for row in epochs] == [row["selection"] for row in others]
    assert end["weights"] == other_end["weights"] and end["accuracy"] == other_end["accuracy"]


def test_scores_from_parts_are_the_same(tmp_path, vectors, config, hpcfilter, on_nodes):
    """In both orders of the run: scoring looks at a rank's own rows only."""
    path = config(vectors, **{**TABLES, "data": {"order": "global"}, "train": {**TABLES["train"], "epochs": 1}})
    assert hpcfilter(1, "train", path, "--run-dir", tmp_path / "run").returncode == 0
    parts = on_nodes(RANKS, "score", tmp_path / "run", "--set", "data.path=packed.h5", "-o", tmp_path / "parts.h5")
    whole = hpcfilter(RANKS, "score", tmp_path / "run", "-o", tmp_path / "whole.h5")
    assert parts.returncode == 0 and whole.returncode == 0, parts.stderr
    tables = [read_table(tmp_path / name)[0]["importance"] for name in ("parts.h5", "whole.h5")]
    assert len(tables[0]) == 2880 and np.array_equal(*tables)


@pytest.mark.parametrize("ranks, order", [(RANKS, "global"), (3, "shard"), (1, "shard")])
def test_training_on_parts_of_another_layout_is_refused(tmp_path, config, on_nodes, ranks, order):
    path = config("packed.h5", **{**TABLES, "data": {"order": order}})
    done = on_nodes(ranks, "train", path, "--run-dir", tmp_path / "run")
    assert done.returncode == 2 and "packed.h5: bytes" in done.stderr and "differ from their checksum" in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()


def test_neither_torch_nor_mpi_is_needed(digits, node):
    code = (f"import sys; from hpcfilter.data.stage import stage; stage({str(digits)!r}, {str(node)!r}); "
            "print([m for m in ('torch', 'mpi4py', 'horovod') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert done.stdout.strip() == "[]" and node.read_bytes() == digits.read_bytes()


def test_a_folder_that_somebody_else_has_prepared(digits, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "job").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failure, match="job: is a link or another user's"):
        stage(digits, tmp_path / "job" / "digits.h5")
    assert not list((tmp_path / "elsewhere").iterdir())
