"""What `hpcfilter probe` has measured: probe.h5. It is small, and written anew as a whole whenever something
is added, so it is always whole.

    /full, /filtered      the loss over all training samples, over those that the filter keeps: numbers as
                          attributes (loss, eigenvalues, ...); trace_terms (Z,): z^T H z of each random vector
        slice1d           position (P,), loss (K, P), error (K, P); attributes minima (K,), roughness (K,)
        slice2d           a (G,), b (G,), loss (G, G), error (G, G); attributes minima, flat_share
        barrier           alpha (A,), loss (A,); attributes barrier, other, weights (their digest), batch
    /samples              a map of m samples: index (m,), xy (m, 2), importance, label, prediction,
                          confidence, loss, kept, drawn (m,); lowest, highest, around: rows of it; images
                          (n, h, w[, c]) of the rows image_of (n,)

NaN in a loss, an error or trace_terms: not evaluated yet. drawn: 1 for a row that was drawn by hash, 0 for
one that is only in lowest, highest or around; older files lack it. Attributes of the root say where all this
comes from. A seal stands behind the end, as in all our files.
"""

import json
import os
from dataclasses import dataclass

import h5py
import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.data.distrust import FREE, check_kind, one_line
from hpcfilter.data.hdf5 import open_hdf5, own_array, write_attribute
from hpcfilter.data.seal import check_seal, seal

FORMAT = 1
SETS = "full", "filtered"
GROUPS = "slice1d", "slice2d", "barrier"
ROWS = "lowest", "highest", "around"  # of the samples; an empty one is not written
# arrays that are attributes; every other one is an array of the file
_FEW = {"minima", "roughness", "eigenvalues", "residuals"}
_JSON = {"options", "sets", "classes"}  # dicts and lists, which are text in the file


@dataclass
class Probe:
    """The content of a probe.h5. Arrays are numpy arrays, numbers and texts Python's; what
    was not measured is absent.

    about: attributes of the root, `options` and `sets` as dicts. sets: "full", "filtered" -> dict of numbers
    (loss, eigenvalues (k,), ...) and of the dicts slice1d, slice2d, barrier, each with its arrays and its
    numbers by name. samples: dict, likewise, with `classes` as a list; None without.
    """

    about: dict
    sets: dict
    samples: dict | None = None


def write_probe(path, probe):
    """Write a Probe under a temporary name, seal it, then rename it. Raises OSError; what stood at
    `path` is then untouched."""
    temporary = f"{path}.part{os.getpid()}"
    with h5py.File("probe", "w", driver="core", backing_store=False, libver=("v110", "v110"),
                   alignment_threshold=1, alignment_interval=64) as file:
        _fill(file, {**probe.about, "format": FORMAT, **probe.sets,
                     **({"samples": probe.samples} if probe.samples else {})})
        file.flush()
        content = file.id.get_file_image()  # made in memory: the HDF5 library may crash on a full disk
    try:
        with open(temporary, "wb") as out:
            out.write(content)
        seal(temporary)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def read_probe(path):
    """Read a probe.h5. Returns Probe. Raises InputError when it is missing, damaged, or not
    as we write it."""
    path = str(path)
    check_kind(path, "a file made by hpcfilter probe")
    check_seal(path)
    with open_hdf5(path) as file:
        about = _attributes(file)
        if (about.get("format") != FORMAT
                or not all(isinstance(about.get(name), dict) for name in ("options", "sets"))):
            raise InputError(f"{path}: got a file of format {about.get('format')}, expected a probe of "
                             f"format {FORMAT}; make it anew")
        sets = {name: _group(file, name) for name in SETS if name in file}
        for name, found in sets.items():
            found |= {part: _group(file, f"{name}/{part}") for part in GROUPS if part in file[name]}
            _check_shapes(f"{path}: {name}", found)
        samples = _group(file, "samples") if "samples" in file else None
        if samples is not None:
            samples = {**{name: np.zeros(0, np.int64) for name in ROWS}, **samples}
            _check_samples(f"{path}: samples", samples)
    return Probe(about, sets, samples)


def _fill(group, values):
    """Write a dict into an open group: dicts as groups, arrays as arrays, the rest as attributes."""
    for name, value in values.items():
        if name in _JSON:
            write_attribute(group, name, json.dumps(value))
        elif isinstance(value, dict):
            _fill(group.create_group(name), value)
        elif np.ndim(value) and name not in _FEW:
            if np.size(value):
                group.create_dataset(name, data=np.ascontiguousarray(value))
        else:
            write_attribute(group, name, value)


def _group(file, name):
    """The arrays and attributes of a group, without the groups within. Raises InputError for a
    link, or what is no group."""
    parent, _, last = name.rpartition("/")
    link = (file[parent] if parent else file).get(last, getlink=True)
    if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Group):
        raise InputError(f"{file.filename}: {name}: expected a group of arrays in the file itself")
    group = file[name]
    return {**{key: np.array(own_array(file, f"{name}/{key}")) for key in group if key not in GROUPS},
            **_attributes(group)}


def _attributes(node):
    """The attributes of a group. Returns name -> number, text, array (n,), or what a JSON text holds."""
    found = {}
    for name in node.attrs:
        attribute = node.attrs.get_id(name)
        kind = attribute.get_type()
        text = kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str()
        number = kind.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT)
        if not (text or number) or len(attribute.shape) > number or attribute.get_storage_size() > FREE:
            raise InputError(f"{node.file.filename}: attribute {one_line(name)}: "
                             "expected numbers or a text of fixed length; made by another program")
        value = node.attrs[name]
        value = value.decode(errors="surrogateescape") if text else value if attribute.shape else value.item()
        found[name] = json.loads(value) if name in _JSON else value
    return found


def _check_shapes(where, found):
    """Raise InputError unless the slices of a set have as many values as points."""
    for part, sides in (("slice1d", ("position",)), ("slice2d", ("a", "b")), ("barrier", ("alpha",))):
        values = found.get(part, {})
        points = tuple(len(values.get(side, ())) for side in sides)
        for name in ("loss", "error"):
            shape = np.shape(values.get(name,
                                        np.zeros((1, *points)) if part == "slice1d" else np.zeros(points)))
            if shape[part == "slice1d" :] != points:
                raise InputError(f"{where}/{part}: {name}: got shape {shape} for {points} points")


def _check_samples(where, samples):
    """Raise InputError unless all columns are of one length, and rows are within it."""
    names = ("index", "xy", "importance", "label", "prediction", "confidence", "loss", "kept",
             *(["drawn"] if "drawn" in samples else []))
    columns = {name: len(samples.get(name, ())) for name in names}
    rows = columns["index"]
    if set(columns.values()) != {rows} or samples["xy"].shape != (rows, 2):
        raise InputError(f"{where}: got columns of {columns} rows, expected as many in each")
    for name in (*ROWS, "image_of"):
        if any(not 0 <= row < rows for row in samples.get(name, ())):
            raise InputError(f"{where}: {name}: got rows outside of 0 to {rows - 1}")
    if len(samples.get("images", ())) != len(samples.get("image_of", ())):
        raise InputError(f"{where}: got {len(samples.get('images', ()))} images of "
                         f"{len(samples.get('image_of', ()))} rows")
