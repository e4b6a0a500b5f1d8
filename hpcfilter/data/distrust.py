"""What is not believed of a file: that it is whole, and that it needs as much memory as it asks for."""

import struct
import zipfile
import zlib
from contextlib import contextmanager

from hpcfilter.base.errors import InputError
from hpcfilter.base.paths import kind, trouble

# how many times its stored bytes a file may become, and how many bytes at any rate
RATIO, FREE = 200, 32 << 20
_allowed = [RATIO]  # the last one counts

# What numpy, h5py, zlib and Pillow raise on files that are damaged or not what they seem.
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError,
          RuntimeError, MemoryError, SyntaxError, struct.error, zipfile.BadZipFile, zlib.error)


@contextmanager
def allowing(times):
    """Within the block, let a file become so many times its stored bytes (--allow-compression), instead of
    RATIO. None: as before."""
    _allowed.append(times or ratio())
    try:
        yield
    finally:
        _allowed.pop()


def ratio():
    """How many times its stored bytes a file may become now."""
    return _allowed[-1]


def check_declared(where, declared, stored):
    """Raise InputError when `stored` bytes declare that they become far more.
    declared: bytes, an int of any size."""
    if declared > max(FREE, ratio() * stored):
        times = -(-declared // max(stored, 1))
        raise InputError(f"{where}: {stored} stored bytes declare to become {declared}, expected at most "
                         f"{ratio()} times as many, or {FREE >> 20} MiB; if it is honest data that compress "
                         f"well, let `pack` take it: --allow-compression {times}")


@contextmanager
def damage(where):
    """What a damaged file makes the libraries raise becomes an InputError that begins with
    `where`, in our own words."""
    try:
        yield
    except DAMAGE as error:
        raise InputError(f"{where}: cannot read: {meaning(error)}") from error


def meaning(error):
    """What one of DAMAGE says of the file that was read. The texts of the libraries speak to those who
    wrote them. Returns str."""
    if isinstance(error, OSError) and error.errno:
        return trouble(error)
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    return "it is damaged, truncated, or not what it seems; bring it here again, or make it anew"


def check_kind(path, wanted):
    """Raise InputError for what is certainly no HDF5 file. path: str. wanted: what was expected, and how
    to get it, for the error.

    HDF5 allows bytes of the user's own before its beginning, so a file that begins as
    nothing known may still be one.
    """
    try:
        found = kind(path)
    except OSError as error:
        raise InputError(f"{path}: cannot read: {trouble(error)}; expected {wanted}") from None
    if found not in ("", "an HDF5 file"):
        raise InputError(f"{path}: cannot read: it is {found}, expected {wanted}")


def one_line(what):
    """The text of an exception, or a name that a file gives, in one line."""
    return " ".join(str(what).split()) or type(what).__name__
