"""Hostile files: each is refused with one line, in no time, in little memory, whatever it asks for;
no other file is read."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import hostile
import numpy as np
import pytest

from hpcfilter.base.errors import InputError
from hpcfilter.data import open_packed, read_table
from hpcfilter.data.hdf5 import open_hdf5
from hpcfilter.pack import foreign
from hpcfilter.pack.pack import pack
from hpcfilter.pack.source import Notes

# bytes that an opening may take; of computing; after which it counts as hanging
MEMORY, SECONDS, PATIENCE = 64 << 20, 1, 20
FLIPS = 250  # wrong bits that are tried in each kind of file


# ---- inside the process that opens the files

def in_this_process(path):
    """Read a source as `pack` does when another process has opened it."""
    with open_hdf5(path) as file:
        for part in foreign.parts(file, {}, Notes()).values():
            for array in (part.images, part.labels):
                array[:]


foreign.SECONDS = 2
OPENERS = {
    "source in this process": in_this_process,
    "source": lambda path: pack(path, f"{path}.packed"),
    "packed": lambda path: open_packed(path).check(0, 1, verify=True),
    "table": read_table,
    "packed, not verified": lambda path: open_packed(path).check(0, 1, verify=False),
    "table, not verified": lambda path: read_table(path, part=None),
}


def watched(opener, path):
    """Open a file in a child of this process. Returns what came of it: a word, the message, bytes of memory,
    seconds of computing."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        before = resource.getrusage(resource.RUSAGE_SELF)
        try:
            OPENERS[opener](path)
            word, message = "accepted", ""
        except InputError as error:
            word, message = "refused", str(error)
        except BaseException as error:
            word, message = type(error).__name__, str(error)
        after = resource.getrusage(resource.RUSAGE_SELF)
        memory, seconds = (1024 * (after.ru_maxrss - before.ru_maxrss),
                           after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        os.write(theirs, json.dumps([word, message[:2000], memory, seconds]).encode())
        os._exit(0)
    os.close(theirs)
    with open(ours) as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    return json.loads(said) if said else [f"signal {os.WTERMSIG(status)}", "", 0, 0]


def watched_all(files):
    """files: list of (opener, path). Returns what came of each, from a process that has done nothing else."""
    words = [(opener, str(path)) for opener, path in files]
    done = subprocess.run([sys.executable, __file__], input=json.dumps(words), capture_output=True, text=True,
                          check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    print(json.dumps([watched(*file) for file in json.load(sys.stdin)]))
    sys.exit()


# ---- the tests

@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Every hostile file, opened: name -> what came of it."""
    files = []
    for opener, _, name, make in hostile.CASES.values():
        folder = tmp_path_factory.mktemp("case")
        (folder / "secret.txt").write_text(hostile.SECRET)
        os.mkfifo(folder / "pipe")
        make(folder / name)
        files.append((opener, folder / name))
    return {case: (path, came)
            for case, (_, path), came in zip(hostile.CASES, files, watched_all(files), strict=True)}


@pytest.mark.parametrize("name", hostile.CASES)
def test_a_hostile_file_is_refused(corpus, name):
    path, (word, message, memory, seconds) = corpus[name]
    assert word == "refused", message
    assert (hostile.CASES[name][1] in message and str(path) in message and "\n" not in message
            and len(message) < 1000)
    assert memory < MEMORY and seconds < SECONDS
    assert (hostile.SECRET[:9] not in message and not (path.parent / "touched").exists()
            and not Path("touched").exists())
    assert [entry for entry in path.parent.iterdir() if ".packed" in entry.name] == []


def test_good_files_are_accepted(tmp_path):
    hostile.source(tmp_path / "source", name="good", class_names=["a", "b", "c"])
    hostile.source_of_chunks(tmp_path / "chunks")
    hostile.packed(tmp_path / "packed")
    hostile.table(tmp_path / "table")
    files = [("source", "source"), ("source", "chunks"), ("packed", "packed"),
             ("packed, not verified", "packed"), ("table", "table"), ("table, not verified", "table")]
    assert ([word for word, *_ in watched_all([(opener, tmp_path / name) for opener, name in files])]
            == ["accepted"] * len(files))


def structure(path):
    """Where in an HDF5 file stands what no array holds, int64: what the library has to interpret."""
    free = np.ones(path.stat().st_size, bool)

    def take(name, found):
        if isinstance(found, h5py.Dataset) and not found.chunks:
            free[found.id.get_offset() : found.id.get_offset() + found.nbytes] = False

    with h5py.File(path) as file:
        file.visititems(take)
    return np.flatnonzero(free)


@pytest.mark.parametrize("opener, make",
                         [("packed, not verified", hostile.packed), ("table, not verified", hostile.table),
                          ("source in this process", hostile.source),
                          ("source in this process", hostile.source_of_chunks)])
def test_a_wrong_bit_does_no_harm_where_nothing_verifies(tmp_path, opener, make):
    rng, path, files = np.random.default_rng(0), tmp_path / "f.h5", []
    make(path)
    data, places = path.read_bytes(), structure(path)
    for number in range(FLIPS):
        changed = bytearray(data)
        changed[rng.choice(places)] ^= 1 << int(rng.integers(8))
        files.append((opener, tmp_path / f"{number}.h5"))
        files[-1][1].write_bytes(changed)
    assert {word for word, *_ in watched_all(files)} == {"refused", "accepted"}
