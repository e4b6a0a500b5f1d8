"""Paths as people write them, what stands there, and whether an output may be written there."""

import os
import re
from pathlib import Path

from hpcfilter.base.errors import InputError

VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
BEGINNINGS = (  # first bytes of a file -> what it is
              (b"\x89HDF\r\n\x1a\n", "an HDF5 file"), (b"PK\x03\x04", "a zip archive, as .npz files are"),
              (b"PK\x05\x06", "an empty zip archive"), (b"\x93NUMPY", "a .npy file"),
              (b"PAR1", "a Parquet file"), (b"ARROW1", "an Arrow file"), (b"CDF", "a NetCDF file"),
              (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"), (b"GIF8", "a GIF image"),
              (b"II*\0", "a TIFF image"), (b"MM\0*", "a TIFF image"), (b"BM", "a BMP image"),
              (b"\x1f\x8b", "a gzip file"), (b"BZh", "a bzip2 file"), (b"\xfd7zXZ", "an xz file"),
              (b"\x28\xb5\x2f\xfd", "a zstd file"), (b"\x80\x04", "a pickle of Python"),
              (b"\x80\x02", "a pickle of Python"))


def expanded(text):
    """A path with `~`, `~user`, `$NAME` and `${NAME}` put in. text: str or path. Returns str;
    a slash at the end stays.

    A variable that is not set stays as it is where something of that very name is there, such as a
    folder called `$x`. Raises ValueError, with the way out, for any other variable that is not set, and
    for a user whom nobody knows.
    """
    text = os.fspath(text)

    def value(found):
        name = found[1] or found[2]
        if name in os.environ:
            return os.environ[name]
        if os.path.lexists(text[: found.end()] + text[found.end() :].partition("/")[0]):
            return found[0]
        raise ValueError(f"the variable {name} is not set in this environment; "
                         "set it, or write the whole path")

    path = VARIABLE.sub(value, text)
    if path.startswith("~") and text.startswith("~"):
        path = os.path.expanduser(path)
        if path.startswith("~"):
            raise ValueError(f"no home folder is known for {path.partition('/')[0]}; write the whole path, "
                             f"or ./{text} for a file of that name")
    return path


def check_output(path, sources=(), where="--output", mine=None, what=""):
    """Refuse, before any work is done, an output that cannot be written, or that would destroy what it is
    made from, or what something else has made.

    path: as the user gave it, of a file; it may exist. sources: paths of the files that the work reads;
    those that are missing do not count. where: the option, for the error. mine: (path) -> whether a
    file that is there is one of those that this work makes, called `what`; None: any may be
    overwritten. Raises InputError.
    """
    path, parent = os.fspath(path), Path(path).parent
    if path.endswith("/") or os.path.isdir(path):
        raise InputError(f"{path}: cannot be the file to write: "
                         f"{'it is a folder' if os.path.isdir(path) else 'it names a folder'}; "
                         f"expected for {where} the name of a file")
    if not parent.is_dir():
        raise InputError(f"{path}: cannot be the file to write: "
                         f"{f'{parent} is a file' if parent.exists() else f'no folder {parent}'}")
    for source in sources:
        if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
            raise InputError(f"{path}: the output would overwrite {source}, which it is made from; "
                             f"give another {where}")
    if mine and os.path.exists(path) and os.path.getsize(path) and not mine(path):
        raise InputError(f"{path}: is there already and is no {what}; give another {where}, "
                         "or remove it first")


def check_folder(path, where="--run-dir"):
    """Refuse, before any work is done, a folder to write into that cannot be one. path: it may be
    missing. Raises InputError."""
    there = next(part for part in (Path(path).absolute(), *Path(path).absolute().parents)
                 if os.path.lexists(part))
    if not there.is_dir():
        raise InputError(f"{path}: cannot be the run folder: {there} is "
                         f"{'a link to nothing' if not there.exists() else 'a file'}; give another {where}")


def kind(path):
    """What stands at a path, in words: "a folder", "an empty file", "a PNG image", ...; "" for a file that
    begins as none of these.

    Raises OSError where nothing can be read.
    """
    if os.path.isdir(path):
        return "a run folder" if os.path.exists(os.path.join(path, "metrics.jsonl")) else "a folder"
    if os.path.exists(path) and not os.path.isfile(path):
        return "a pipe or a device"
    with open(path, "rb") as file:
        head = file.read(16)
    if not head:
        return "an empty file"
    return next((name for beginning, name in BEGINNINGS if head.startswith(beginning)), "")


def trouble(error):
    """Why a file cannot be read or written, in the system's words for an OSError, without those of a
    library. Returns str."""
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    return os.strerror(error.errno) if error.errno else "the disk refuses, as a full one does"
