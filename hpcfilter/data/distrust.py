"""What is not believed of a file: that it is whole, and that it needs as much memory as it asks for."""

import struct
import zipfile
import zlib
from contextlib import contextmanager

from hpcfilter.errors import InputError

RATIO, FREE = 200, 32 << 20  # how many times its stored bytes a file may become, and how many bytes at any rate
_allowed = [RATIO]  # the last one counts

# What numpy, h5py, zlib and Pillow raise on files that are damaged or not what they seem.
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError, RuntimeError, MemoryError, SyntaxError,
          struct.error, zipfile.BadZipFile, zlib.error)


@contextmanager
def allowing(times):
    """Within the block, let a file become so many times its stored bytes (--allow-compression), instead of RATIO. None: as before."""
    _allowed.append(times or ratio())
    try:
        yield
    finally:
        _allowed.pop()


def ratio():
    """How many times its stored bytes a file may become now."""
    return _allowed[-1]


def check_declared(where, declared, stored):
    """Raise InputError when `stored` bytes declare that they become far more. declared: bytes, an int of any size."""
    if declared > max(FREE, ratio() * stored):
        times = -(-declared // max(stored, 1))
        raise InputError(f"{where}: {stored} stored bytes declare to become {declared}, expected at most {ratio()} times as many, "
                         f"or {FREE >> 20} MiB; if it is honest data that compress well, let `pack` take it: --allow-compression {times}")


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
