"""HDF5 files from elsewhere, as sources of `pack`. A process of its own opens them first, within limits.

What the library does with a damaged or hostile file cannot be checked before it does it: it allocates up to 4
GiB for a text of variable length, and in a damaged heap of such texts, or of the parts of a virtual array, it
searches without end (HDF5 2.0). A process can be ended.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.data.distrust import allowing, one_line, ratio
from hpcfilter.data.hdf5 import (
    array_names,
    find_array,
    find_texts,
    hold_hdf5,
    map_array,
    open_hdf5,
    read_texts,
)
from hpcfilter.pack.arrays import checked, parts_of
from hpcfilter.pack.chunked import Chunked
from hpcfilter.pack.mosaics import Mosaics
from hpcfilter.pack.names import meaning, pairs
from hpcfilter.pack.source import Words

SECONDS, BYTES = 60, 256 << 20  # of computing and of memory, beyond what it takes to start the process
WAIT = 600  # seconds in all, on a slow disk too
# of attributes, or of arrays of texts
CLASS_NAMES = ("class_names", "classes", "label_names", "list_classes")
MOSAICS = "mosaics_jpeg", "offsets"
SLICE = 1 << 16  # texts that are read at once


def open_foreign(path, notes, images=None, labels=None):
    """The splits of an HDF5 file, its name and its class names: (split -> Part, name or
    None, list of names or None).

    images, labels: names of arrays that are not the usual ones, with their groups or without. The file stays
    open while the arrays are used. Raises InputError for a file that cannot be read within the limits, or is
    refused by `find_array`.
    """
    with tempfile.TemporaryDirectory() as folder:
        name, classes, words = _apart(path, folder, images, labels)
        words = {array: Words(np.load(Path(folder, file), allow_pickle=False), names)
                 for array, (file, names) in words.items()}
    file = hold_hdf5(path)
    return parts(file, words, notes, images, labels), name, classes


def _apart(path, folder, images, labels):
    """Have another process open the file. Returns (name, class names, array -> [file with its codes in
    `folder`, its words])."""
    argv = [sys.executable, "-m", "hpcfilter.pack.foreign",
            json.dumps([str(path), SECONDS, folder, images, labels, ratio()])]
    # and not the current folder, where a random.py of the user's would take the place of Python's
    home = str(Path(__file__).parents[2])
    found = {"PYTHONSAFEPATH": "1",
             "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), home]))}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=WAIT,
                              env={**os.environ, **found})
    except subprocess.TimeoutExpired:
        raise InputError(f"{path}: cannot be opened within {WAIT} s; "
                         "it is damaged, or its disk does not answer") from None
    if done.returncode:
        killed = (f"{path}: keeps the HDF5 library busy for more than {SECONDS} s, "
                  f"or crashes it ({done.returncode}); the file is damaged")
        raise InputError((done.stderr.splitlines() or [killed])[-1])
    return json.loads(done.stdout)


def parts(file, words, notes, images=None, labels=None):
    """split -> Part of an open file. words: array -> Words, of the labels that are texts."""
    names = [name for name in array_names(file) if name.rpartition("/")[2] not in (*MOSAICS, *CLASS_NAMES)]
    found, unused = pairs(names, file.filename, images, labels)
    for name in array_names(file):
        if name.rpartition("/")[2] == MOSAICS[0]:
            found.setdefault(meaning(name.rpartition("/")[0]).split, {})["images"] = name
    for name in unused:
        if meaning(name).split:  # a split that lies elsewhere is refused, not left out
            find_array(file, name, links_only=True)

    def read(name, role):
        if name in words:
            return words[name]
        if name.rpartition("/")[2] != MOSAICS[0]:
            return checked(_array(file, name), f"{file.filename}: {name}", role)
        group = name.removesuffix(MOSAICS[0])
        label = next(there["labels"]
                     for there in found.values() if there["images"] == name and "labels" in there)
        return Mosaics(_array(file, name), _array(file, group + MOSAICS[1])[:],
                       find_array(file, label).shape[0], f"{file.filename}: {name}")

    return parts_of(found, unused, file.filename, notes, read)


def _array(file, name):
    data = find_array(file, name)
    if data is None:
        raise InputError(f"{file.filename}: {one_line(name)}: missing")
    return Chunked(data) if data.chunks else map_array(data)


def _class_names(file):
    """The name of the data set and those of its classes: a list of texts, or one text that is JSON."""
    name, *classes = (read_texts(file, name) for name in ("name", *CLASS_NAMES))
    classes = next((texts for texts in classes if texts is not None), None)
    if isinstance(classes, str):
        classes = json.loads(classes)
    if isinstance(name, list) or not isinstance(classes, list | None):
        raise InputError(f"{file.filename}: its attributes say {one_line(name)[:80]} of the name and "
                         f"{one_line(classes)[:80]} of the classes, expected one text and a list of texts")
    for array in CLASS_NAMES if classes is None else ():
        if (texts := find_texts(file, array)) is not None:
            classes = [text.decode(errors="backslashreplace") for text in texts[:].reshape(-1).tolist()]
    return name, classes and [str(text) for text in classes]


def _word_labels(file, folder, images, labels):
    """Labels that are texts, written into `folder` as numbers: array -> [name of the file, list of words]."""
    found, _ = pairs([name for name in array_names(file) if name not in CLASS_NAMES], file.filename,
                     images, labels)
    words = {}
    for name in (roles["labels"] for roles in found.values() if "labels" in roles):
        if (texts := find_texts(file, name)) is None:
            continue
        place, codes = {}, np.empty(texts.shape[0], np.int64)
        for start in range(0, len(codes), SLICE):
            pieces = texts[start : start + SLICE].reshape(-1).tolist()
            codes[start : start + len(pieces)] = [place.setdefault(piece, len(place)) for piece in pieces]
        np.save(Path(folder, f"{len(words)}.npy"), codes)
        words[name] = [f"{len(words)}.npy", [piece.decode(errors="backslashreplace") for piece in place]]
    return words


def _rehearse(path, seconds, folder, images, labels, most):
    """What the process of its own does: it opens the file as `pack` will, and prints its names as JSON."""
    from hpcfilter.pack.source import Notes

    with open("/proc/self/statm") as sizes:
        memory = int(sizes.read().split()[0]) * resource.getpagesize()
    for kind, limit in ((resource.RLIMIT_CPU, int(time.process_time()) + seconds),
                        (resource.RLIMIT_AS, memory + BYTES)):
        resource.setrlimit(kind, (limit, limit))
    try:
        with allowing(most), open_hdf5(path) as file:
            words = _word_labels(file, folder, images, labels)
            parts(file, {name: Words([], []) for name in words}, Notes(), images, labels)
            print(json.dumps([*_class_names(file), words]))
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _rehearse(*json.loads(sys.argv[1]))
