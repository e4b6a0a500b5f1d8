"""What `pack` can read. A source hands out rows by slice; of HDF5 and folders no more than a slice is ever in memory.

Every source is found by what stands at the path: the word `digits`, an .npz file, an HDF5 file, idx files, or a folder of images by class.
"""

import gzip
import io
import json
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from hpcfilter.data.packed import reason
from hpcfilter.errors import InputError

# What numpy, h5py, zlib and Pillow raise on files that are damaged or not what they seem.
DAMAGE = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IMAGE_FILES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".webp"}
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
    try:
        if path.is_dir():
            return _idx_folder(path) if list(_idx_files(path)) else _image_folder(path, size)
        if path.suffix == ".npz":
            return _npz(path)
        if h5py.is_hdf5(path):
            return _hdf5(path)
        if "idx" in path.name or "ubyte" in path.name:
            return _idx_folder(path.parent, path)
    except DAMAGE as error:
        raise InputError(f"{path}: cannot read: {reason(error)}") from None
    raise InputError(f"{path}: not a data set that pack knows: expected digits, .npz, .h5, idx files or a folder of images by class")


def _digits():
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("digits: needs scikit-learn, which ships the data: pip install scikit-learn") from None
    bunch = load_digits()
    return Source("digits", (bunch.images.astype(np.uint8), bunch.target.astype(np.int64)), classes=[str(c) for c in bunch.target_names])


def _npz(path):
    with np.load(path, allow_pickle=False) as file:
        splits = {split: next(((file[x], file[y]) for x, y in names if x in file and y in file), None)
                  for split, names in _NPZ_NAMES.items()}
        found = ", ".join(file.files)
    if splits["train"] is None:
        known = "; ".join(f"{x}, {y}" for x, y in _NPZ_NAMES["train"])
        raise InputError(f"{path}: found the arrays {found}; expected a pair of: {known}")
    return Source(path.stem, splits["train"], splits["test"])


def _hdf5(path):
    """An HDF5 file with images and labels at its root or under train/ and test/; it stays open while it is packed."""
    file = h5py.File(path, "r", locking=False)

    def split(group):
        images = _Mosaics(group) if "mosaics_jpeg" in group else _own_array(group, "images")
        labels = _own_array(group, "labels")
        return (images, labels) if images is not None and labels is not None else None

    train = split(file["train"]) if "train" in file else split(file)
    test = split(file["test"]) if "test" in file else None
    if train is None:
        raise InputError(f"{path}: found {', '.join(file)} at the root; expected images and labels there, or under train/ and test/")
    classes = file.attrs.get("class_names", file.attrs.get("classes"))
    if isinstance(classes, (str, bytes)):
        classes = json.loads(classes)
    return Source(str(file.attrs.get("name", path.stem)), train, test, None if classes is None else [_text(name) for name in classes])


def _own_array(group, name):
    """A data set of numbers that lies in this very file, or None. A file must not make us read another one."""
    link = group.get(name, getlink=True)
    if link is None:
        return None
    array = group[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(array, h5py.Dataset) or array.is_virtual or array.id.get_create_plist().get_external_count() or array.ndim == 0:
        raise InputError(f"{group.file.filename}: {group.name}/{name}: expected an array in the file itself, got a group, a link or external storage")
    return array


class _Mosaics:
    """Images of 32 x 32 pixels kept as JPEG mosaics, 25 rows of 40 each: `mosaics_jpeg` end to end, cut at `offsets`."""

    ROWS, COLUMNS, TILE = 25, 40, 32
    chunk_rows = ROWS * COLUMNS

    def __init__(self, group):
        self._bytes, self._offsets = group["mosaics_jpeg"], group["offsets"][:]
        self.shape, self.dtype = (len(group["labels"]), self.TILE, self.TILE, 3), np.dtype(np.uint8)

    def __getitem__(self, rows):
        first, last = rows.start // self.chunk_rows, -(-rows.stop // self.chunk_rows)
        images = np.concatenate([self._decode(number) for number in range(first, last)])
        return images[rows.start - first * self.chunk_rows : rows.stop - first * self.chunk_rows]

    def _decode(self, number):
        jpeg = self._bytes[self._offsets[number] : self._offsets[number + 1]].tobytes()
        tiles = _pillow().open(io.BytesIO(jpeg)).convert("RGB")
        grid = np.asarray(tiles).reshape(self.ROWS, self.TILE, self.COLUMNS, self.TILE, 3)
        return grid.swapaxes(1, 2).reshape(-1, self.TILE, self.TILE, 3)


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
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        data = file.read()
    zero, kind, axes = struct.unpack_from(">HBB", data)
    if zero or kind not in _IDX_TYPES:
        raise InputError(f"{path}: not an idx file: it begins with {data[:4].hex()}")
    shape = struct.unpack_from(f">{axes}I", data, 4)
    dtype = np.dtype(_IDX_TYPES[kind])
    expected = 4 + 4 * axes + int(np.prod(shape)) * dtype.itemsize
    if len(data) != expected:
        raise InputError(f"{path}: got {len(data)} bytes, expected {expected} for shape {shape}; the file is truncated or damaged")
    return np.frombuffer(data, dtype, offset=4 + 4 * axes).reshape(shape)


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
             for file in sorted((folder / name).iterdir()) if file.suffix.lower() in _IMAGE_FILES]
    if not files:
        raise InputError(f"{folder}: found no image files ({', '.join(sorted(_IMAGE_FILES))}) in its class folders")
    return _ImageFiles([file for file, _ in files], size), np.array([label for _, label in files], np.int64)


class _ImageFiles:
    """Image files as rows (height, width, 3), or (height, width) when the first one is grey."""

    chunk_rows = 256

    def __init__(self, files, size):
        self._files, self._size = files, size
        with _pillow().open(files[0]) as first:
            self._mode = "L" if first.mode in ("L", "1", "I;16") else "RGB"
            height, width = size or first.size[::-1]
        self.shape = (len(files), height, width) + ((3,) if self._mode == "RGB" else ())
        self.dtype = np.dtype(np.uint8)

    def __getitem__(self, rows):
        return np.stack([self._read(file) for file in self._files[rows]])

    def _read(self, file):
        with _pillow().open(file) as image:
            converted = image.convert(self._mode)
        pixels = np.asarray(converted.resize(self._size[::-1]) if self._size else converted)
        if pixels.shape != self.shape[1:]:
            raise InputError(f"{file}: got {pixels.shape[1]} x {pixels.shape[0]} pixels, expected {self.shape[2]} x {self.shape[1]} "
                             f"as {self._files[0].name}; give --size HEIGHTxWIDTH")
        return pixels


def _pillow():
    try:
        from PIL import Image
    except ImportError:
        raise InputError("images: needs Pillow: pip install pillow") from None
    return Image


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)
