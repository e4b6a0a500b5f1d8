"""Arrays that numpy has saved: .npz files, .npy files beside each other."""

import math
import os
import zipfile
from pathlib import Path

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.data.distrust import check_declared, damage
from hpcfilter.pack.names import in_order, listed, meaning, pairs
from hpcfilter.pack.source import Part, Words, check_type


def read_npz(path, notes, images=None, labels=None):
    """The splits of an .npz file: split -> Part. images, labels: names of arrays that are not the usual
    ones. Raises InputError."""
    with damage(path), zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member
                   for member in archive.infolist() if member.filename.endswith(".npy")}
        found, unused = pairs(members, path, images, labels)
        if not found and set(members) == {"arr_0", "arr_1"}:
            found, unused = {"": {"images": "arr_0", "labels": "arr_1"}}, []
            notes.said.append(f"{path.name}: its arrays have no names; the first is taken for the rows, "
                              "the second for the labels")
        if not found and len(members) == 1:
            found, unused = {"": {"images": next(iter(members))}}, []

        def read(name, role):
            return _member(path, archive, members[name], role)

        return parts_of(found, unused, path, notes, read)


def read_npy(path, notes, images=None, labels=None):
    """Rows in .npy files, and their labels in others beside them: split -> Part. path: of one of
    them, or the folder of all.

    labels: the file with the labels, or its name. Raises InputError.
    """
    folder = path if path.is_dir() else path.parent
    beside = {file.name: file
              for file in in_order(folder.iterdir()) if file.suffix == ".npy" and file.is_file()}
    if labels and Path(labels).is_file():
        beside[Path(labels).name] = Path(labels)
        labels = Path(labels).name
    if path.is_file():
        beside = {name: file for name, file in beside.items()
                  if name in (path.name, labels) or _belong_together(path, name)}
        found, unused = {}, []
        for name in beside:
            split, role = (meaning(path.name if name == labels else name).split,
                           "labels" if name == labels else meaning(name).role or "images")
            if (other := found.setdefault(split, {}).setdefault(role, name)) != name:
                raise InputError(f"{path}: both '{other}' and '{name}' may be its {role}; say which: "
                                 f"--{role} NAME")
    else:
        found, unused = pairs(beside, path, images, labels)
    return parts_of(found, unused, path, notes, lambda name, role: _array(beside[name], role))


def _belong_together(path, name):
    """Whether an .npy file is of the set that `path` is of: the same words but for those of split and role.
    Other rows of its split are not."""
    own, other = meaning(path.name), meaning(name)
    return (bool(own.role and other.role) and own.rest == other.rest
            and not (own.split, own.role) == (other.split, other.role))


def parts_of(found, unused, where, notes, read):
    """The Parts of names that `pairs` has found. where: path of the source. read: (name, role) ->
    array. Says what is not used.

    Raises InputError when there are labels without rows, no rows at all, or rows without labels where
    something might be their labels.
    """
    parts, labelled = {}, any(len(roles) == 2 for roles in found.values())
    for split in [split for split, roles in found.items()
                  if labelled and split in ("val", "test") and "labels" not in roles]:
        notes.left_out.append(f"the rows {found.pop(split)['images']}, which have no labels")
    for split, roles in found.items():
        if "images" not in roles:
            raise InputError(f"{where}: found the labels {roles['labels']}, and no rows for them; "
                             f"there are {listed(unused) or 'no other arrays'}; say which: --images NAME")
        if "labels" not in roles and (unused or len(found) > 1):
            raise InputError(f"{where}: found the rows {roles['images']}, and no labels for them; "
                             f"there are {listed(unused) or 'no other arrays'}; say which: "
                             "--labels NAME, or give a source with the rows alone")
        arrays = {role: read(name, role) for role, name in roles.items()}
        parts[split] = Part(arrays["images"], arrays.get("labels"),
                            f"{Path(where).name}: {', '.join(roles.values())}")
    if not parts:
        raise InputError(f"{where}: found the arrays {listed(unused) or 'none'}; "
                         "expected rows and labels, such as images, labels or x_train, y_train; say which: "
                         "--images NAME --labels NAME")
    if unused:
        notes.left_out.append(f"{len(unused)} arrays that are neither rows nor labels: {listed(unused)}")
    return parts


def checked(array, where, role):
    """An array that has been read, or Words for labels that are words. role: images or labels. Raises
    InputError for what cannot be trained on."""
    if role == "labels" and array.dtype.kind in "US":
        if array.size != len(array):
            raise InputError(f"{where}: got words of shape {array.shape}, expected one label per row")
        return Words.of(array.reshape(-1))
    check_type(where, array.dtype)
    return array


def _member(path, archive, member, role):
    """One array of an .npz file, of which no more is read than the archive says and the array needs."""
    where = f"{path}: {member.filename}"
    check_declared(where, member.file_size, min(member.compress_size, os.path.getsize(path)))
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{where}: got compression {member.compress_type}, expected none or deflate, "
                         "as numpy writes them")
    with archive.open(member) as file:
        _check_header(where, file, member.file_size)
        file.seek(0)
        array = np.lib.format.read_array(file, allow_pickle=False)
    return checked(array, where, role)


def _array(path, role):
    """An .npy file, mapped into memory. Words are read."""
    with damage(path):
        with open(path, "rb") as file:
            dtype = _check_header(str(path), file, os.path.getsize(path))
        return checked(np.load(path, allow_pickle=False, mmap_mode="r" if dtype.kind not in "US" else None),
                       str(path), role)


def _check_header(where, file, length):
    """Read the header of a file in numpy's format. Returns the dtype. Raises InputError unless its array
    fills exactly `length` bytes."""
    version = np.lib.format.read_magic(file)
    shape, _, dtype = (np.lib.format.read_array_header_1_0 if version == (1, 0)
                       else np.lib.format.read_array_header_2_0)(file)
    if dtype.hasobject:
        check_type(where, np.dtype(object))
    size = file.tell() + math.prod(shape) * dtype.itemsize
    if size != length:
        raise InputError(f"{where}: got {length} bytes, expected {size} for {dtype} of shape {shape}; "
                         "the file is truncated or damaged")
    if not shape:
        raise InputError(f"{where}: holds a single number, expected rows")
    return dtype
