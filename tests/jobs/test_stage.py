"""Staging: what lies on a node is the source, bit for bit, or nothing lies there; whatever the disk does,
and whoever else stages."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import pytest
from conftest import TIMEOUT
from stages import NODES, PER_NODE, beside, flip

from hpcfilter.base.errors import Failure, InputError
from hpcfilter.data.seal import BLOCK, read_seal
from hpcfilter.jobs.stage import node_disk
from hpcfilter.jobs.stage import stage as staging
from hpcfilter.jobs.stage.stage import stage
from hpcfilter.pack.pack import pack

# ---- copies

@pytest.mark.parametrize("name", ["digits", "vectors"])
def test_a_copy_is_the_file_and_is_kept(name, node, request, monkeypatch):
    source = request.getfixturevalue(name)
    monkeypatch.setenv("NODE_STORAGE", str(node.parent))
    size = source.stat().st_size
    line = stage(source, "${NODE_STORAGE}/packed.h5")
    assert re.fullmatch(rf"node 0 \(.+\): {node}: copied {size} of {size} bytes of {source} in [\d.]+ s, "
                        r"[\d.]+ GB/s", line)
    assert node.read_bytes() == source.read_bytes() and beside(node) == ["packed.h5"]
    before = node.stat()
    assert f"kept what was there, checked {size} of {size} bytes" in stage(source, node)
    assert (node.stat().st_ino, node.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("spoil", [
    lambda path, source: path.write_bytes(b""),
    lambda path, source: path.write_bytes(source.read_bytes()[:-1]),
    lambda path, source: flip(path, 5 * BLOCK + 7),
    lambda path, source: flip(path, path.stat().st_size - 30),
    # as long, with other bytes
    lambda path, source: pack(source.with_name("source.npz"), path, seed=1, replace=True),
])
def test_what_is_not_the_source_is_replaced(vectors, node, spoil):
    stage(vectors, node)
    spoil(node, vectors)
    assert ": copied " in stage(vectors, node)
    assert node.read_bytes() == vectors.read_bytes() and beside(node) == ["packed.h5"]


def test_damage_of_the_source_is_named_and_nothing_is_staged(vectors, tmp_path, node):
    source, seal = tmp_path / "source.h5", read_seal(vectors)
    rows = r"bytes {} to \d+ \(.*rows.*differ from their checksum"
    for where, message in ((3 * BLOCK, rows.format(3 * BLOCK)), (13 * BLOCK - 1, rows.format(12 * BLOCK)),
                           (300, "cannot read|differ"), (seal.length - 1, "cannot read|differ"),
                           (seal.length + 5, "the seal in bytes .* is damaged"), (seal.size - 1, "seal")):
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
    """A bit of the copy flips before it is read back: once, and it is mended; again, and the
    disk is given up."""
    done = []

    def bad_disk(path, seal, blocks):
        if os.path.exists(path) and len(done) < times:
            flip(path, 7 * BLOCK + 3)
            done.append(list(blocks))
        yield from node_disk.given_back_wrong(path, seal, blocks)

    monkeypatch.setattr(staging, "given_back_wrong", bad_disk)
    with (pytest.raises(Failure, match=f"packed.h5: bytes {7 * BLOCK} to {8 * BLOCK - 1} were right when "
                                       "they were written, and are wrong")
          if times > 1 else contextlib.nullcontext()):
        stage(vectors, node)
    assert len(done) == times and done[1:] == [[7]] * (times - 1), "only the wrong block is written again"
    assert (beside(node) == ["packed.h5"] * (times == 1)
            and (times > 1 or node.read_bytes() == vectors.read_bytes()))


def test_a_disk_without_room(vectors, small_disk, monkeypatch):
    node, size = small_disk(20 << 10) / "deep" / "packed.h5", vectors.stat().st_size
    message = rf"packed.h5: needs {size} bytes, but \d+ are free in .*deep on "
    with pytest.raises(Failure, match=message):
        stage(vectors, node)
    assert beside(node) == []
    stage(vectors, node, "copy", 0, (NODES, PER_NODE))  # half of it has room
    part = node.read_bytes()
    # another job takes the room meanwhile
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40))
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
    with pytest.raises(InputError,
                       match=r"got \$\{NOT_SET\}/packed.h5 on .*: a variable in it is not set there"):
        stage(vectors, "${NOT_SET}/packed.h5")
    with pytest.raises(InputError, match="got 'rsync', expected copy, tar or check"):
        stage(vectors, tmp_path / "p.h5", "rsync")
    with pytest.raises(InputError, match="cannot read"):
        stage(__file__, tmp_path / "p.h5")


def test_a_folder_that_somebody_else_has_prepared(digits, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "job").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failure, match="job: is a link or another user's"):
        stage(digits, tmp_path / "job" / "digits.h5")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_neither_torch_nor_mpi_is_needed(digits, node):
    code = (f"import sys; from hpcfilter.jobs.stage.stage import stage; stage({str(digits)!r}, "
            f"{str(node)!r}); print([m for m in ('torch', 'mpi4py', 'horovod') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          timeout=TIMEOUT, check=True)
    assert done.stdout.strip() == "[]" and node.read_bytes() == digits.read_bytes()


# ---- killed, and several at once

def process(source, dest, patch=""):
    code = (f"from hpcfilter.jobs.stage import stage as s, node_disk\nimport time, pathlib\n{patch}\n"
            f"print(s.stage({str(source)!r}, {str(dest)!r}))")
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


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
        while not any(path.stat().st_blocks * 512 >= source.stat().st_size
                      for path in dest.parent.glob("*.staging-*")):
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


# ---- a file that sbcast has brought

def test_a_file_that_something_else_has_brought(vectors, tmp_path, node):
    size = vectors.stat().st_size
    with pytest.raises(Failure, match="packed.h5: No such file or directory on "):
        stage(vectors, node, "check")
    node.parent.mkdir()
    shutil.copyfile(vectors, node)
    assert f": checked {size} of {size} bytes of {vectors} in " in stage(vectors, node, "check")
    flip(node, 11 * BLOCK)
    with pytest.raises(Failure, match=f"packed.h5: bytes {11 * BLOCK} to {12 * BLOCK - 1} differ from those "
                                      f"of {vectors}: the copy is damaged"):
        stage(vectors, node, "check")
    damaged = tmp_path / "damaged.h5"
    shutil.copyfile(node, damaged)
    with pytest.raises(InputError, match=rf"damaged.h5: bytes {11 * BLOCK} to {12 * BLOCK - 1} \(.*rows.*\) "
                                         r"differ from their checksum"):
        stage(damaged, node, "check")
    os.truncate(node, size - 1)
    with pytest.raises(Failure, match=f"packed.h5: got {size - 1} bytes, expected {size}"):
        stage(vectors, node, "check")
    assert node.stat().st_size == size - 1, "it is not for us to remove it"
    for method in ("check", "tar"):
        with pytest.raises(InputError, match=f"part: got method {method}, expected copy"):
            stage(vectors, node, method, 0, (1, 1))
