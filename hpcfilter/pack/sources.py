"""What `pack` can read. A source hands out rows by slice; of HDF5 and folders no more than a slice is ever in memory.

Every source is found by what stands at the path: the word `digits`, an .npz file, an HDF5 file, idx files, or a folder of images by class.
"""

import gzip
import math
import os
import struct
import zipfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from hpcfilter.data.distrust import check_declared, damage, one_line
from hpcfilter.data.hdf5 import is_hdf5
from hpcfilter.errors import InputError
from hpcfilter.pack.foreign import open_foreign
from hpcfilter.pack.images import SUFFIXES, ImageFiles

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NPZ_NAMES = {  # split -> (images, labels) in the spellings met in the wild
    "train": (("x_train", "y_train"), ("train_images", "train_labels"), ("X_train", "y_train"),
              ("images", "labels"), ("x", "y"), ("X", "y"), ("data", "target")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels"), ("X_test", "y_test")),
}


@dataclass
class Source:
    """Rows to pack. Each split is (images, labels): array-likes with shape, dtype and slicing along the first axis."""

    name: str
    train: tuple
    test: tuple | None = None  # None: `pack` splits off a share of the training rows
    classes: list | None = None  # names in label order, when the source has them


def open_source(path, size=None):
    """Open what stands at `path`. size: (height, width) that images of a folder are brought to. Returns Source.

    Raises InputError when nothing readable is there.
    """
    if str(path) == "digits":
        return _digits()
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected digits, .npz, .h5, idx files or a folder of images by class")
    with damage(path):
        if path.is_dir():
            return _idx_folder(path) if list(_idx_files(path)) else _image_folder(path, size)
        if path.suffix == ".npz":
            return _npz(path)
        if is_hdf5(path):
            train, test, name, classes = open_foreign(path)
            return Source(name or path.stem, train, test, classes)
        if "idx" in path.name or "ubyte" in path.name:
            return _idx_folder(path.parent, path)
    raise InputError(f"{path}: not a data set that pack knows: expected digits, .npz, .h5, idx files or a folder of images by class")


def _digits():
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("digits: needs scikit-learn, which ships the data: pip install scikit-learn") from None
    bunch = load_digits()
    return Source("digits", (bunch.images.astype(np.uint8), bunch.target.astype(np.int64)), classes=[str(c) for c in bunch.target_names])


def _npz(path):
    with zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        splits = {split: next(((_member(path, archive, members[x]), _member(path, archive, members[y])) for x, y in names
                               if x in members and y in members), None) for split, names in _NPZ_NAMES.items()}
    if splits["train"] is None:
        known = "; ".join(f"{x}, {y}" for x, y in _NPZ_NAMES["train"])
        raise InputError(f"{path}: found the arrays {one_line(', '.join(islice(members, 20)))}; expected a pair of: {known}")
    return Source(path.stem, splits["train"], splits["test"])


def _member(path, archive, member):
    """One array of an .npz file, of which no more is read than the archive says and the array needs."""
    where = f"{path}: {member.filename}"
    check_declared(where, member.file_size, min(member.compress_size, os.path.getsize(path)))
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{where}: got compression {member.compress_type}, expected none or deflate, as numpy writes them")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = (np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
        size = file.tell() + math.prod(shape) * dtype.itemsize
        if size != member.file_size:
            raise InputError(f"{where}: got {member.file_size} bytes, expected {size} for {dtype} of shape {shape}")
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def _idx_files(folder):
    return (file for file in sorted(folder.iterdir()) if "-images" in file.name and ("idx" in file.name or "ubyte" in file.name))


def _idx_folder(folder, only=None):
    """idx files by their usual names: train-images-idx3-ubyte and t10k- or test-images..., labels beside them, .gz or not."""
    splits = {}
    for images in [only] if only else _idx_files(folder):
        labels = folder / images.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
        if not labels.exists() or labels == images:
            raise InputError(f"{images}: expected its labels beside it, in {labels.name}")
        splits["test" if images.name.startswith(("t10k", "test")) else "train"] = (_idx(images), _idx(labels))
    if "train" not in splits:
        splits["train"] = splits.pop("test")
    return Source(folder.name, splits["train"], splits.get("test"))


def _idx(path):
    """One idx file (Y. LeCun's format: two zero bytes, type, number of axes, big-endian lengths, numbers)."""
    stored, packed = os.path.getsize(path), path.suffix == ".gz"
    with gzip.open(path) if packed else open(path, "rb") as file:
        head = file.read(4)
        zero, kind, axes = struct.unpack(">HBB", head)
        if zero or kind not in _IDX_TYPES or not axes:
            raise InputError(f"{path}: not an idx file: it begins with {head.hex()}")
        shape, dtype = struct.unpack(f">{axes}I", file.read(4 * axes)), np.dtype(_IDX_TYPES[kind])
        begin, size = file.tell(), math.prod(shape) * dtype.itemsize
        check_declared(path, size, stored)
        data = file.read(size + 1 if packed else min(size + 1, stored))
    if len(data) != size:
        raise InputError(f"{path}: got {begin + len(data)} bytes{' or more' * (len(data) > size)}, expected {begin + size} for shape {shape}; "
                         "the file is truncated or damaged")
    return np.frombuffer(data, dtype).reshape(shape)


def _image_folder(folder, size):
    """FOLDER/CLASS/*.png, or FOLDER/train/CLASS/... beside FOLDER/test (or val)/CLASS/..."""
    train = folder / "train" if (folder / "train").is_dir() else folder
    test = next((folder / name for name in ("test", "val") if (folder / name).is_dir()), None) if train != folder else None
    classes = sorted(entry.name for entry in train.iterdir() if entry.is_dir())
    if not classes:
        raise InputError(f"{folder}: found no folders of images; expected one folder per class with image files in it")
    return Source(folder.name, _images(train, classes, size), _images(test, classes, size) if test else None, classes)


def _images(folder, classes, size):
    unknown = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name not in classes)
    if unknown:
        raise InputError(f"{folder}: class folder '{unknown[0]}' is not among the training classes: {', '.join(classes)}")
    files = [(file, label) for label, name in enumerate(classes) if (folder / name).is_dir()
             for file in sorted((folder / name).iterdir()) if file.suffix.lower() in SUFFIXES]
    if not files:
        raise InputError(f"{folder}: found no image files ({', '.join(sorted(SUFFIXES))}) in its class folders")
    return ImageFiles([file for file, _ in files], size), np.array([label for _, label in files], np.int64)
