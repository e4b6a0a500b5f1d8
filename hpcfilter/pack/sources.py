"""What `pack` can read, found by what stands at the path. Of HDF5, .npy and images no more than a
slice is ever in memory."""

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.data.distrust import damage
from hpcfilter.data.hdf5 import is_hdf5
from hpcfilter.data.packed import check_labels, is_packed, open_packed
from hpcfilter.pack.arrays import read_npy, read_npz
from hpcfilter.pack.cifar import LABEL_NAMES, cifar_batches, read_cifar
from hpcfilter.pack.folders import image_folder, is_hidden
from hpcfilter.pack.foreign import open_foreign
from hpcfilter.pack.idx import idx_files, is_idx, read_idx
from hpcfilter.pack.names import in_order, listed, meaning
from hpcfilter.pack.pictures import SUFFIXES as PICTURES
from hpcfilter.pack.source import Notes, Part, Source, Words, join
from hpcfilter.pack.tables import SUFFIXES as TABLES
from hpcfilter.pack.tables import read_table

KNOWN = "digits, .npz, .npy, .h5, .csv, .parquet, idx files, CIFAR's batches, or a folder of images by class"
HDF5 = {".h5", ".hdf5", ".hdf", ".he5"}
PICKLE = "a pickle of Python, which can run programs"
OTHERS = {".pt": "a file of torch", ".pth": "a file of torch", ".pkl": PICKLE, ".pickle": PICKLE,
          ".mat": "a file of MATLAB", ".tfrecord": "a file of TensorFlow"}
DOCUMENT = re.compile(
    r"(readme|licen[cs]e|citation|changelog|copying|notice|authors).*|.*[.](md|html|rst|pdf|bib)")
ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"}


@dataclass
class Reading:
    """How a source is to be read. size: (height, width) that images are brought to. images,
    labels: names of arrays or columns that are not the usual ones. first_frame: take the first picture
    of image files that hold several."""

    size: tuple | None = None
    images: str | None = None
    labels: str | None = None
    first_frame: bool = False


def open_source(source, reading=Reading()):  # noqa: B008  it is never changed
    """Open what stands at `source`: a path, a pattern such as 'part-*.h5', or a list of paths. Returns
    Source. Raises InputError."""
    if str(source) == "digits":
        return _digits(reading)
    found = paths_of(source)
    seen = set()
    for path in found:
        if (same := (path.stat().st_dev, path.stat().st_ino)) in seen:
            raise InputError(f"{path}: is given twice, expected each file once")
        seen.add(same)
    opened = (_open(found[0], reading) if len(found) == 1
              else _shards(found, reading, found[0].absolute().parent.name))
    return _with_training_rows(opened, source if len(found) == 1 else found[0].parent)


def paths_of(source):
    """The paths that a source stands for: a path, a pattern or a list of these. Returns a list of Path.
    Raises InputError where nothing is there."""
    paths = [source] if isinstance(source, str | Path) else source
    return [Path(match) for path in paths for match in _matches(path)]


def _matches(path):
    """The paths that a path or a pattern stands for."""
    if Path(path).exists():
        return [path]
    matches = in_order(glob.glob(str(path))) if glob.has_magic(str(path)) else []
    if not matches:
        raise InputError(f"{path}: no such file or folder; expected {KNOWN}")
    return matches


def _with_training_rows(source, where):
    """The source, its rows that are of no split taken as the training rows, or said to be left out."""
    rest = source.parts.pop("", None)
    if rest and "train" not in source.parts:
        source.parts["train"] = rest
    elif rest:
        source.notes.left_out.append(f"{rest.images.shape[0]} rows of {rest.where}, which are beside those "
                                     "of named splits")
    if "train" not in source.parts:
        raise InputError(f"{where}: found rows for {' and '.join(source.parts)} and none for training; "
                         "expected names such as x_train, y_train")
    return source


def _open(path, reading):
    """One file or folder as a Source, whose split may be ""."""
    if path.is_dir():
        with damage(path):
            return _folder(path, reading)
    source, suffix = Source(path.stem, {}), path.suffix.lower()
    with damage(path):
        if suffix == ".npz":
            source.parts = read_npz(path, source.notes, reading.images, reading.labels)
        elif is_hdf5(path):
            return _hdf5(path, source, reading)
        elif suffix == ".npy":
            source.parts = read_npy(path, source.notes, reading.images, reading.labels)
        elif suffix in TABLES:
            source.parts, source.classes = read_table(path, source.notes, reading.size, reading.images,
                                                      reading.labels, reading.first_frame)
        elif is_idx(path.name):
            _refuse_names(reading, path)
            source.parts, source.name = read_idx(path, source.notes), path.absolute().parent.name
        else:
            raise InputError(f"{path}: {_refusal(path, suffix)}")
    return source


def _refusal(path, suffix):
    """What is wrong with a file that is no source, and the way out."""
    reasons = (
        (path.stat().st_size == 0, "is empty"),
        (suffix in PICTURES,
         "is one image; expected a folder of images by class, or a table (.csv) of their names and labels"),
        (suffix in HDF5,
         "is no HDF5 file, though it is called so; it is truncated, damaged or of another kind"),
        (suffix in ARCHIVES, "is an archive; unpack it first"),
        (suffix in OTHERS,
         f'is {OTHERS.get(suffix)}; save its arrays with numpy.savez("data.npz", images=..., labels=...)'),
        (path.name.startswith(("data_batch", "test_batch", "batches.meta")),
         "is one batch of CIFAR; give the folder of all"),
    )
    return next((reason for applies, reason in reasons if applies),
                f"not a data set that pack knows; expected {KNOWN}")


def _folder(folder, reading):
    """What lies in a folder, decided by the files in it; in the one folder that it holds, where
    that is all there is."""
    entries = [entry for entry in in_order(folder.iterdir()) if not is_hidden(entry.name)]
    files = [entry for entry in entries if entry.is_file()]
    folders = [entry for entry in entries if entry.is_dir()]
    name = folder.absolute().name
    if batches := cifar_batches(folder):
        _refuse_names(reading, "a folder of CIFAR batches", labels=False)
        source, used = read_cifar(folder, reading.labels), {*batches, "batches.meta", "meta",
                                                            "batches.meta.txt", *LABEL_NAMES}
    elif idx := idx_files(folder):
        _refuse_names(reading, "a folder of idx files")
        source, used = Source(name, {}), {file.name for file in idx}
        source.parts = read_idx(folder, source.notes)
    elif kinds := _kinds(files, folders):
        if len(kinds) > 1:
            raise InputError(f"{folder}: holds files of several kinds: "
                             f"{listed(f'{len(files)} {kind}' for kind, files in kinds.items())}; "
                             "say which, by their names or by a pattern such as "
                             f"'{folder}/*{next(iter(kinds.values()))[0].suffix}'")
        kind, found = next(iter(kinds.items()))
        used = {file.name for file in found} | {entry.name for entry in files
                                                if kind in TABLES and entry.suffix.lower() in PICTURES}
        source = Source(name, {})
        if kind == ".npy":
            source.parts = read_npy(folder, source.notes, reading.images, reading.labels)
        else:
            source = _shards(found, reading, name)
    elif len(folders) == 1 and _has_data(folders[0]):
        source, used = _folder(folders[0], reading), {folders[0].name}
        source.notes.said.insert(0, f"the data set is taken from {folders[0]}")
    else:
        _refuse_names(reading, "a folder of images by class")
        return image_folder(folder, reading.size, reading.first_frame)
    documents = [entry.name
                 for entry in files if DOCUMENT.fullmatch(entry.name.lower()) and entry.name not in used]
    others = [f"{entry.name}/" if entry.is_dir() else entry.name
              for entry in entries if entry.name not in {*used, *documents}]
    if documents:
        source.notes.left_out.append(f"{len(documents)} documents: {listed(documents)}")
    if others:
        source.notes.left_out.append(f"{len(others)} other files and folders of {folder.name}/: "
                                     f"{listed(others)}")
    if hidden := sum(is_hidden(entry.name) for entry in folder.iterdir()):
        source.notes.left_out.append(f"{hidden} hidden or system files and folders")
    return source


def _kinds(files, folders):
    """The files that hold arrays or tables, by kind; {} where folders of images lie beside them, but for a
    table beside one folder of its images."""
    kinds = {}
    for file in files:
        if file.suffix.lower() in {".npz", ".npy"} | HDF5 | TABLES:
            kinds.setdefault("HDF5" if file.suffix.lower() in HDF5 else file.suffix.lower(), []).append(file)
    pictures = sum(any(os.path.splitext(name)[1].lower() in PICTURES for _, _, names in os.walk(folder)
                       for name in names) for folder in folders)
    return {} if pictures > 1 or (pictures and not set(kinds) & TABLES) else kinds


def _has_data(folder):
    """Whether a folder holds files of a data set other than images by class, or nothing but
    one folder that does."""
    entries = [entry for entry in folder.iterdir() if not is_hidden(entry.name)]
    folders = [entry for entry in entries if entry.is_dir()]
    return bool(cifar_batches(folder) or idx_files(folder)
                or _kinds([entry for entry in entries if entry.is_file()], [])
                or (len(folders) == 1 and _has_data(folders[0])))


def _shards(files, reading, name):
    """Several files of one set, joined by split. A file's own name counts where its arrays name no split."""
    packed = [file for file in files if file.is_file() and is_hdf5(file) and is_packed(file)]
    if packed and len(packed) < len(files):
        raise InputError(f"{packed[0]}: was made by pack, and lies among the files to be packed; "
                         "move it away, or name the others by a pattern")
    source, parts, kinds = Source(name, {}), {}, {file.suffix.lower() for file in files}
    if ".npy" in kinds or any(file.is_dir() for file in files):
        raise InputError(f"{files[0]}: got {len(files)} paths, of which not all are shards; "
                         "expected .npz, .h5, .csv or .parquet files, or one path")
    opened = [_open(file, reading) for file in files]
    _agree_on_classes(opened)
    columns = {part.columns for one, file in zip(opened, files, strict=True)
               for part in one.parts.values() if meaning(file.stem).split == "train"}
    for file, one in zip(files, opened, strict=True):
        source.notes.left_out += [f"{file.name}: {note}" for note in one.notes.left_out]
        source.notes.said += [f"{file.name}: {note}" for note in one.notes.said]
        for own, part in one.parts.items():
            split = own or meaning(file.stem).split
            if (split in ("val", "test") and part.columns and len(columns) == 1
                    and next(iter(columns))[0] not in part.columns):
                source.notes.left_out.append(f"the {part.images.shape[0]} rows of {file.name}, "
                                             f"which have no column {next(iter(columns))[0]}")
            else:
                parts.setdefault(split, []).append(part)
    source.parts = {split: join(found) for split, found in parts.items()}
    source.classes, source.layout = (opened[0].classes,
                                     next((one.layout for one in opened if one.layout is not None), None))
    source.kind = next((one.kind for one in opened if one.kind), None)
    return source


def _agree_on_classes(opened):
    """Where the shards name other classes, or in another order, let their labels be the names. Raises
    InputError where only some have names."""
    if all(one.classes == opened[0].classes for one in opened):
        return
    for one in opened:
        if one.classes is None:
            raise InputError(f"{next(iter(one.parts.values())).where}: names no classes, expected names as "
                             "the other files have")
        for part in one.parts.values():
            if not isinstance(part.labels, Words):
                check_labels(np.asarray(part.labels[:]).reshape(-1), len(one.classes), part.where)
                part.labels = Words(np.asarray(part.labels[:]).reshape(-1), one.classes)
        one.classes = None


def _hdf5(path, source, reading):
    """An HDF5 file, perhaps one that `pack` has made."""
    if is_packed(path) and not (reading.images or reading.labels):
        packed = open_packed(path)
        packed.check(0, 1, verify=True)
        source.parts = {split.name: Part(split.images, split.labels if packed.labelled else None,
                                         f"{path.name}: {split.name}")
                        for split in (packed.train, packed.test)}
        source.classes, source.layout, source.kind = (packed.classes or None, packed.layout,
                                                      None if packed.classes else "numbers")
        return source
    source.parts, name, source.classes = open_foreign(path, source.notes, reading.images, reading.labels)
    source.name = name or source.name
    return source


def _refuse_names(reading, what, images=True, labels=True):
    """Raise InputError for --images and --labels where rows and labels have no names to choose from.
    what: the source, in words."""
    for option, given in (("--images", images and reading.images), ("--labels", labels and reading.labels)):
        if given:
            raise InputError(f"{option}: got {given}, but {what} has no arrays or columns to choose from; "
                             "leave it out")


def _digits(reading):
    _refuse_names(reading, "digits")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("digits: needs scikit-learn, which ships the data: "
                         "pip install scikit-learn") from None
    bunch, notes = load_digits(), Notes()
    if Path("digits").exists():
        notes.said.append("the word digits means the handwritten digits of scikit-learn; "
                          "the folder or file of that name is ./digits")
    part = Part(bunch.images.astype(np.uint8), bunch.target.astype(np.int64), "digits of scikit-learn")
    return Source("digits", {"train": part}, [str(name) for name in bunch.target_names], notes=notes)
