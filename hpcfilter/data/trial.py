"""Whether HDF5 works here."""

import errno
import os
import shutil
from pathlib import Path

import h5py

from hpcfilter.base.errors import InputError
from hpcfilter.data.distrust import one_line
from hpcfilter.data.table import read_table, write_table

ROOM = 1 << 20  # bytes that must be free, as the HDF5 library may crash when a disk is full


def hdf5_build():
    """Returns {"version": of the HDF5 library, "mpi": whether h5py is built with MPI}."""
    return {"version": h5py.version.hdf5_version, "mpi": bool(h5py.get_config().mpi)}


def try_folder(folder, name):
    """Write a small table in a folder, lock it and read it back, and leave nothing behind. name: of the file,
    which no other process uses.

    Returns {"free": bytes or None, "write": why it cannot be written and read, "lock": why HDF5 cannot
    lock it}, "" where it can.
    """
    found = {"free": None, "write": "", "lock": ""}
    path = Path(folder) / name
    try:
        found["free"] = shutil.disk_usage(folder).free
        if found["free"] < ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_table(path, 1, {"probe": ("int64", [[7]])}, {})
        try:
            read_table(path)
            found["lock"] = lock_problem(path)
        finally:
            path.unlink()
    except (OSError, InputError) as error:
        found["write"] = _reason(error)
    return found


def lock_problem(path):
    """Why an HDF5 file cannot be locked, in words; "" when it can, or when
    HDF5_USE_FILE_LOCKING forgoes it."""
    try:
        with h5py.File(path, "r+", locking=True):  # the variable has precedence
            return ""
    except OSError as error:
        return _reason(error)


def _reason(error):
    """An error in few words; the texts of h5py are long."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else one_line(error)
