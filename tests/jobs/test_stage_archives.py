"""Staging out of an archive: the one file that is asked for, bit for bit, and nothing from archives that are
damaged, hostile or cut."""

import gzip
import io
import tarfile

import numpy as np
import pytest
from stages import beside, flip

from hpcfilter.base.errors import Failure, InputError
from hpcfilter.data.seal import BLOCK, read_seal
from hpcfilter.jobs.stage import archive, node_disk
from hpcfilter.jobs.stage.stage import stage

RNG = np.random.default_rng(0)


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
    path = tar(tmp_path / "data.tar", ("readme", b"x"), ("packed.h5.old", b"y"), (name, data),
               ("last", b"z" * 5000), mode=f"w:{kind}")
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
        with pytest.raises(InputError, match=f"data.tar: packed.h5: bytes {block * BLOCK} to .* differ from "
                                             "their checksum"):
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
    with pytest.raises(Failure, match=f"packed.h5: bytes {2 * BLOCK} to {3 * BLOCK - 1} were right when they "
                                      "were written"):
        stage(path, node, "tar")
    assert beside(node) == []


HOSTILE = {
    "outside": ([("../../packed.h5", b"DATA")], "got .*packed.h5., expected a plain file that lies inside"),
    "a symbolic link": ([("packed.h5", {"type": tarfile.SYMTYPE, "linkname": "secret"})],
                        "expected a plain file that lies inside"),
    "a symbolic link to elsewhere": ([("packed.h5", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})],
                                     "expected a plain file that lies inside"),
    "a hard link": ([("packed.h5", {"type": tarfile.LNKTYPE, "linkname": "secret"})],
                    "expected a plain file that lies inside"),
    "a device": ([("packed.h5", {"type": tarfile.CHRTYPE})], "expected a plain file that lies inside"),
    "a pipe": ([("packed.h5", {"type": tarfile.FIFOTYPE})], "expected a plain file that lies inside"),
    "a folder": ([("packed.h5", {"type": tarfile.DIRTYPE})], "expected a plain file that lies inside"),
    "two of the name": ([("a/packed.h5", b"DATA"), ("b/packed.h5", b"DATA")],
                        "more than one file named packed.h5"),
    "a file and a link": ([("packed.h5", b"DATA"),
                           ("packed.h5", {"type": tarfile.SYMTYPE, "linkname": "secret"})],
                          "expected a plain file"),
    "none": ([("other.h5", b"DATA")], "holds no file named packed.h5"),
    "empty": ([("packed.h5", b"")], "packed.h5: its 0 bytes do not end with a seal"),
    "no packed file": ([("packed.h5", b"x" * 1000)], "packed.h5: its 1000 bytes do not end with a seal"),
    "declares much more than it holds": ([("packed.h5", {"size": 1 << 50})],
                                         "stored bytes declare to become 1125899906842624"),
    "declares more than it holds": ([("packed.h5", {"size": 10 << 20})], "unexpected end of data"),
    "declares less than nothing": ([("packed.h5", {"size": -(1 << 20)})], "do not end with a seal"),
    "goes backwards": ([("other", {"size": -2048}), ("packed.h5", b"DATA")],
                       "cannot read it as a tar|holds no file"),
    "a long header": ([("other", {"type": b"K", "size": 1 << 40}), ("packed.h5", b"DATA")],
                      "a header of 1099511627776 bytes"),
}


@pytest.mark.parametrize("kind", ["", "gz"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive(digits, tmp_path, node, name, kind):
    members, message = HOSTILE[name]
    data = digits.read_bytes()
    path = tar(tmp_path / "data.tar",
               *((member, data if content == b"DATA" else content) for member, content in members),
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
    with pytest.raises(InputError,
                       match="stored bytes declare to become 2147483648, expected at most 200 times as many"):
        stage(path, node, "tar")
    assert beside(node) == []


@pytest.mark.parametrize("kind", ["", "gz", "xz"])
def test_archives_cut_anywhere(digits, tmp_path, node, kind):
    whole = tar(tmp_path / "data.tar", ("readme", b"x" * 3000), ("packed.h5", digits.read_bytes()),
                mode=f"w:{kind}").read_bytes()
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
