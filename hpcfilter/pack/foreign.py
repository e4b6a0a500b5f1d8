"""HDF5 files from elsewhere, as sources of `pack`. A process of its own opens them first, within limits.

What the library does with a damaged or hostile file cannot be checked before it does it: it allocates up to 4 GiB for a text of variable length, and
in a damaged heap of such texts, or of the parts of a virtual array, it searches without end (HDF5 2.0). A process can be ended.
"""

import json
import resource
import subprocess
import sys
import time
from itertools import islice

from hpcfilter.data.distrust import one_line
from hpcfilter.data.hdf5 import find_array, hold_hdf5, map_array, open_hdf5, read_texts
from hpcfilter.errors import InputError
from hpcfilter.pack.chunked import Chunked
from hpcfilter.pack.images import Mosaics

SECONDS, BYTES = 60, 256 << 20  # of computing and of memory, beyond what it takes to start the process
WAIT = 600  # seconds in all, on a slow disk too


def open_foreign(path):
    """Images and labels at the root of an HDF5 file or under train/ and test/, and what its attributes `name` and `class_names` or `classes` say.

    Returns ((images, labels), the same of the test rows or None, name or None, list of class names or None). The file stays open while they are used.
    Raises InputError for a file that cannot be read within the limits, or is refused by `find_array`.
    """
    words = [sys.executable, "-m", "hpcfilter.pack.foreign", str(path), str(SECONDS)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=WAIT)
    except subprocess.TimeoutExpired:
        raise InputError(f"{path}: cannot be opened within {WAIT} s; it is damaged, or its disk does not answer") from None
    if done.returncode:
        killed = f"{path}: keeps the HDF5 library busy for more than {SECONDS} s, or crashes it ({done.returncode}); the file is damaged"
        raise InputError((done.stderr.splitlines() or [killed])[-1])
    return *_arrays(hold_hdf5(path)), *json.loads(done.stdout)


def _arrays(file):
    train, test = _split(file, "train/") or _split(file, ""), _split(file, "test/")
    if train is None:
        found = one_line(", ".join(islice(file, 20)))
        raise InputError(f"{file.filename}: found {found} at the root; expected images and labels there, or under train/ and test/")
    return train, test


def _split(file, group):
    """(images, labels) of a group, a prefix of names; None where one of them is missing."""
    images, labels, mosaics, offsets = (_array(file, group + name) for name in ("images", "labels", "mosaics_jpeg", "offsets"))
    if mosaics is not None and offsets is not None and labels is not None:
        images = Mosaics(mosaics, offsets[:], labels.shape[0], f"{file.filename}: {group}mosaics_jpeg")
    return None if images is None or labels is None else (images, labels)


def _array(file, name):
    data = find_array(file, name)
    return None if data is None else Chunked(data) if data.chunks else map_array(data)


def _names(file):
    """The name and the names of the classes: a list of texts, or one text that is JSON."""
    name, *classes = (read_texts(file, name) for name in ("name", "class_names", "classes"))
    classes = next((texts for texts in classes if texts is not None), None)
    if isinstance(classes, str):
        classes = json.loads(classes)
    if isinstance(name, list) or not isinstance(classes, list | None):
        raise TypeError("expected one name and a list of class names")
    return name, classes and [str(text) for text in classes]


def _rehearse(path, seconds):
    """What the process of its own does: it opens the file, and prints its names as JSON."""
    with open("/proc/self/statm") as sizes:
        memory = int(sizes.read().split()[0]) * resource.getpagesize()
    for kind, most in ((resource.RLIMIT_CPU, int(time.process_time()) + seconds), (resource.RLIMIT_AS, memory + BYTES)):
        resource.setrlimit(kind, (most, most))
    try:
        with open_hdf5(path) as file:
            _arrays(file)
            print(json.dumps(_names(file)))
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _rehearse(sys.argv[1], int(sys.argv[2]))
