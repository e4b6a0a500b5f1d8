"""HDF5 files, of which nothing is believed: what is checked before anything is read.

Left to itself, the library follows links and storage into other files, allocates whatever size a file
declares, and reads texts of variable length without end when they are damaged (HDF5 2.0). What we write has
none of these, and the library's own checksums over all that it must interpret.
"""

import math
import os
from contextlib import contextmanager

import h5py
import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.data.distrust import FREE, check_declared, check_kind, damage, one_line

FILTERS = {h5py.h5z.FILTER_DEFLATE: "gzip", h5py.h5z.FILTER_SHUFFLE: "shuffle",
           h5py.h5z.FILTER_FLETCHER32: "fletcher32", h5py.h5z.FILTER_LZF: "lzf"}
_NUMBERS = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM)  # h5py stores booleans as an enumeration
_LAYOUTS = {h5py.h5d.COMPACT: "compact", h5py.h5d.CONTIGUOUS: "contiguous", h5py.h5d.CHUNKED: "chunked"}


def create_hdf5(path, mode="w"):
    """Open a file to write. Returns h5py.File: arrays begin at multiples of 64 bytes, metadata carry
    checksums (the format of HDF5 1.10)."""
    return h5py.File(path, mode, locking=False, libver=("v110", "v110"), alignment_threshold=1,
                     alignment_interval=64)


def lay_out(path, arrays, about):
    """Make a file whose arrays are contiguous and still to be filled. Returns name -> the
    byte at which each begins.

    arrays: name, with its groups -> (shape, dtype). about: name -> number or text, attributes of the root.
    Raises OSError when there is no room: the whole space is taken here, so that a full disk is no SIGBUS of a
    memory map, nor an error within the library, which can crash when it is closed after one.
    """
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_layout(h5py.h5d.CONTIGUOUS)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    with create_hdf5(path) as file:
        for name, value in about.items():
            write_attribute(file, name, value)
        for name, (shape, dtype) in arrays.items():
            group, _, last = name.rpartition("/")
            kind, space = (h5py.h5t.py_create(np.dtype(dtype)),
                           h5py.h5s.create_simple(tuple(int(side) for side in shape)))
            h5py.h5d.create(file.require_group(group or "/").id, last.encode(), kind, space, dcpl=early)
        offsets = {name: file[name].id.get_offset() for name in arrays}
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
    return offsets


def is_hdf5(path):
    """Whether a file begins as HDF5 does."""
    return h5py.is_hdf5(path)


def hold_hdf5(path):
    """Open a file to read, as h5py.File, for as long as its arrays are used."""
    return h5py.File(path, "r", locking=False)


@contextmanager
def open_hdf5(path, wanted="an HDF5 file"):
    """Open a file to read, as h5py.File. Whatever damage makes h5py raise within the block
    becomes an InputError.

    wanted: what was expected, and how to get it, for the refusal of another kind of file.
    """
    check_kind(path, wanted)
    if not h5py.is_hdf5(path):
        raise InputError(f"{path}: cannot read: it does not begin as an HDF5 file does: "
                         f"it is damaged or of another kind; expected {wanted}")
    with damage(path), hold_hdf5(path) as file:
        yield file


def array_names(file, most=1000, depth=4):
    """The names of all that is no group in an open file, with their groups; links too, which are not
    followed. Returns a list of at most `most`."""
    names, groups = [], [("", file)]
    while groups and len(names) < most:
        prefix, group = groups.pop(0)
        for name in group:
            link = group.get(name, getlink=True)
            inside = isinstance(link, h5py.HardLink) and group.get(name, getclass=True) is h5py.Group
            if inside and prefix.count("/") + 1 < depth:
                groups.append((f"{prefix}{name}/", group[name]))
            elif len(names) < most:
                names.append(prefix + name)
    return names


def find_texts(file, name):
    """An array (n,) or (n, 1) of texts in the file itself, not yet read, as h5py.Dataset;
    None for anything else."""
    found = file
    for step in name.split("/"):
        link = found.get(step, getlink=True) if isinstance(found, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            return None
        found = found[step]
    if not isinstance(found, h5py.Dataset) or found.id.get_type().get_class() != h5py.h5t.STRING:
        return None
    creation = found.id.get_create_plist()
    inside = creation.get_layout() in _LAYOUTS and not creation.get_external_count()
    return found if inside and found.shape and found.shape[0] == math.prod(found.shape) else None


def find_array(file, name, links_only=False):
    """An array of numbers in an open file, checked and not yet read. Returns h5py.Dataset, or
    None where nothing stands.

    links_only: check no more than that no link is on the way to it.

    Raises InputError for what is not in the file itself, is no array of numbers, was never written in full,
    has another filter than those of FILTERS, or declares more bytes than it can honestly hold.
    """
    where, found = _where(file, name), file
    for step in name.split("/"):
        link = found.get(step, getlink=True) if isinstance(found, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{where}: expected an array in the file itself, got a link")
        found = found[step]
    if links_only:
        return None
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{where}: expected an array, got a group or a type")
    creation = found.id.get_create_plist()
    # asked first: the shape of a virtual one is read from other files
    if creation.get_layout() not in _LAYOUTS or creation.get_external_count():
        raise InputError(f"{where}: expected an array in the file itself, got a virtual or external one")
    kind = found.id.get_type()
    if kind.get_class() not in _NUMBERS or kind != h5py.h5t.py_create(found.dtype, logical=True):
        raise InputError(f"{where}: expected numbers of a common type, got texts, records, references or an "
                         "odd type")
    if not found.shape or 0 in found.shape:
        raise InputError(f"{where}: expected an array of at least one row, got shape {found.shape}")
    _check_size(found, where, creation)
    return found


def _check_size(data, where, creation):
    """Whether the declared sizes of a data set can be true. Sizes are ints of Python, as products of what a
    file declares overflow others."""
    item, length = data.dtype.itemsize, os.path.getsize(data.file.filename)
    if data.chunks:
        names = [FILTERS.get(code, f"{code} ({one_line(name.decode(errors='replace'))})")
                 for code, _, _, name in map(creation.get_filter, range(creation.get_nfilters()))]
        if not set(names) <= set(FILTERS.values()) or len(set(names)) < len(names):
            raise InputError(f"{where}: got the filters {', '.join(names)}, expected none but "
                             f"{', '.join(FILTERS.values())}, each once")
        chunks = math.prod(-(-side // chunk) for side, chunk in zip(data.shape, data.chunks, strict=True))
        if chunks > length or data.id.get_num_chunks() != chunks:
            raise InputError(f"{where}: expected {chunks} chunks in a file of {length} bytes, "
                             "which holds fewer; it was never written in full")
    stored = min(data.id.get_storage_size(), length)
    if not stored:
        raise InputError(f"{where}: was never written")
    for size in (math.prod(data.shape) * item, math.prod(data.chunks or ()) * item):
        check_declared(where, size, stored)


def map_array(data):
    """Memory-map what `find_array` has found, read-only. Raises InputError unless it is
    contiguous and inside the file."""
    where, layout = _where(data.file, data.name[1:]), data.id.get_create_plist().get_layout()
    if layout != h5py.h5d.CONTIGUOUS:
        raise InputError(f"{where}: expected one contiguous array, got a {_LAYOUTS[layout]} one; "
                         "pack it first")
    offset, size, length = (data.id.get_offset(), math.prod(data.shape) * data.dtype.itemsize,
                            os.path.getsize(data.file.filename))
    if offset + size > length:
        raise InputError(f"{where}: its {size} bytes at {offset} do not lie within the file's {length} "
                         "bytes; it is truncated")
    return np.memmap(data.file.filename, data.dtype, "r", offset, data.shape)


def own_array(file, name):
    """Memory-map an array of a file that we have written. Raises InputError unless it is as we write them."""
    data = find_array(file, name)
    if data is None:
        raise InputError(f"{_where(file, name)}: missing")
    array = map_array(data)
    if not (array.dtype.isnative and array.flags.aligned):
        raise InputError(f"{_where(file, name)}: expected native and aligned numbers, got {array.dtype} at "
                         f"byte {array.offset}; make it anew")
    return array


def write_attribute(file, name, value):
    """Let a file say something of itself. value: number, or text, which is kept at a fixed length."""
    file.attrs[name] = np.bytes_(value.encode(errors="surrogateescape")) if isinstance(value, str) else value


def read_attribute(file, name):
    """What a file that we have written says of itself: number, text, or None where nothing stands.

    Raises InputError unless it is as we write them.
    """
    if name not in file.attrs:
        return None
    attribute = file.attrs.get_id(name)
    kind = attribute.get_type()
    plain = (kind.get_class() in _NUMBERS[:2]
             or (kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str()))
    if attribute.shape != () or not plain or attribute.get_storage_size() > FREE:
        raise InputError(f"{file.filename}: attribute {one_line(name)}: expected a number or a text of fixed "
                         "length; made by another program")
    value = file.attrs[name]
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value.item()


def read_texts(file, name):
    """An attribute of a file from elsewhere: a text, a list of texts, or None where nothing stands. Raises
    InputError for anything else."""
    if name not in file.attrs:
        return None
    attribute = file.attrs.get_id(name)
    if (attribute.get_type().get_class() != h5py.h5t.STRING or len(attribute.shape) > 1
            or attribute.get_storage_size() > FREE):
        raise InputError(f"{file.filename}: cannot read: attribute {one_line(name)}: "
                         f"expected a text or a list of texts, of {FREE >> 20} MiB at most")
    value = file.attrs[name]
    texts = [text.decode(errors="backslashreplace") if isinstance(text, bytes) else text
             for text in (value.tolist() if attribute.shape else [value])]
    return texts if attribute.shape else texts[0]


def _where(file, name):
    return f"{file.filename}: {one_line(name)}"
