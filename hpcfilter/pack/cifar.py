"""The batches of CIFAR-10 and CIFAR-100, as their authors give them out: Python's (pickled)
and the binary ones.

Rows of both are 3,072 bytes, channel by channel. A pickle can run programs, so only what these
files need is unpickled.
"""

import os
import pickle
import re

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.pack.names import in_order, listed, split_of
from hpcfilter.pack.source import Part, Source, join

PIXELS, SIDE = 3072, 32
FIVE = [f"data_batch_{number}" for number in range(1, 6)]
LABEL_NAMES = "fine_label_names.txt", "coarse_label_names.txt"
LABELS = ("fine_labels", "labels")  # of CIFAR-100, of CIFAR-10
_ALLOWED = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
            ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")}


def cifar_batches(folder):
    """The files of a folder that are called as CIFAR's are: name -> split. {} where there are none."""
    names = [entry.name for entry in in_order(folder.iterdir()) if entry.is_file()]
    batches = {name: "test" if name.startswith("test") else "train" for name in names
               if re.fullmatch(r"(data_batch_[1-9]|test_batch)([.]bin)?", name)}
    plain = {name: split for name, split in batches.items() if not name.endswith(".bin")}
    batches = plain or batches  # both forms beside each other hold the same rows
    if batches or ("meta" not in names and "fine_label_names.txt" not in names):
        return batches
    return {name: split_of(name.removesuffix(".bin"))
            for name in names if name.removesuffix(".bin") in ("train", "test")}


def read_cifar(folder, labels=None):
    """The batches in a folder. labels: the kind of labels (--labels), such as coarse_labels; default
    fine_labels or labels. Returns Source."""
    source, found = Source(folder.name, {}), {}
    for name, split in cifar_batches(folder).items():
        read = _binary if name.endswith(".bin") else _pickled
        found.setdefault(split, []).append(read(folder / name, labels, source.notes))
    source.parts = {split: join(parts) for split, parts in found.items()}
    source.classes, source.layout = _class_names(folder, labels), "HWC"
    missing = [name
               for name in FIVE if not (folder / name).exists() and not (folder / f"{name}.bin").exists()]
    if "train" in found and 0 < len(missing) < 5:
        source.notes.said.append(f"of the five training batches these are missing: {listed(missing)}")
    return source


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise InputError(f"wants {module}.{name}, which no batch of CIFAR needs")


def _unpickle(path):
    """The dict of a pickled file, its keys as str."""
    try:
        with open(path, "rb") as file:
            found = _Unpickler(file, encoding="bytes").load()
        return {key.decode() if isinstance(key, bytes) else key: value for key, value in found.items()}
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception:  # a damaged pickle can raise anything
        raise InputError(f"{path}: cannot be read as a batch of CIFAR: it is truncated, damaged or another "
                         "kind of file") from None


def _pickled(path, labels, notes):
    batch = _unpickle(path)
    name = labels or next((name for name in LABELS if name in batch), "labels")
    if "data" not in batch or name not in batch:
        raise InputError(f"{path}: found {listed(batch)}, expected data and {name}")
    data, label = np.asarray(batch["data"]), np.asarray(batch[name])
    others = [key for key in batch if key.endswith("labels") and key not in (name, "batch_label")]
    if others and path.name != "test":
        notes.left_out.append(f"other labels of the same rows: {listed(others)}; "
                              "--labels NAME takes them instead")
    return _part(path, data, label)


def _binary(path, labels, notes):
    """Records of one label byte (CIFAR-100: the coarse and the fine one) and 3,072 bytes."""
    marks = 2 if path.name in ("train.bin", "test.bin") else 1
    size = os.path.getsize(path)
    if not size or size % (marks + PIXELS):
        raise InputError(f"{path}: got {size} bytes, expected a multiple of {marks + PIXELS}; "
                         "the file is truncated")
    records = np.memmap(path, np.uint8, "r").reshape(-1, marks + PIXELS)
    return _part(path, records[:, marks:], records[:, 0 if labels == "coarse_labels" else marks - 1])


def _part(path, data, labels):
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS or labels.shape != (len(data),):
        raise InputError(f"{path}: got {data.dtype} rows of shape {data.shape} and labels of shape "
                         f"{labels.shape}, expected uint8 (n, {PIXELS}) and (n,)")
    images = np.ascontiguousarray(data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
    return Part(images, labels.astype(np.int64), path.name)


def _class_names(folder, labels):
    """The names of the classes, from the file beside the batches; None where there is none."""
    kind = "coarse_label_names" if labels == "coarse_labels" else "fine_label_names"
    for name in ("batches.meta", "meta"):
        if (folder / name).is_file():
            found = _unpickle(folder / name)
            names = found.get("label_names", found.get(kind))
            return names and [name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name)
                              for name in names]
    for name in ("batches.meta.txt", f"{kind}.txt"):
        if (folder / name).is_file():
            return (folder / name).read_text(errors="backslashreplace").split()
    return None
