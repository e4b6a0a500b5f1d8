"""What is not believed of a file: that it is whole, and that it needs as much memory as it asks for."""

import struct
import zipfile
import zlib
from contextlib import contextmanager

from hpcfilter.errors import InputError

RATIO, FREE = 200, 16 << 20  # how many times its stored bytes a file may become, and how many bytes at any rate

# What numpy, h5py, zlib and Pillow raise on files that are damaged or not what they seem.
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError, RuntimeError, MemoryError, SyntaxError,
          struct.error, zipfile.BadZipFile, zlib.error)


def check_declared(where, declared, stored):
    """Raise InputError when `stored` bytes declare that they become far more. declared: bytes, an int of any size."""
    if declared > max(FREE, RATIO * stored):
        raise InputError(f"{where}: {stored} stored bytes declare to become {declared}, expected at most {RATIO} times as many, or {FREE >> 20} MiB; "
                         "if it is no bomb, store it with less compression")


@contextmanager
def damage(where):
    """What a damaged file makes the libraries raise becomes an InputError that begins with `where`."""
    try:
        yield
    except DAMAGE as error:
        raise InputError(f"{where}: cannot read: {one_line(error)}") from None


def one_line(what):
    """The text of an exception, or a name that a file gives, in one line."""
    return " ".join(str(what).split()) or type(what).__name__
