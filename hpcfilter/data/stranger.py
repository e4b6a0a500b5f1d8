"""What a file is that hpcfilter has not made. Ours are HDF5, end with a seal, and say something of
themselves: a file that has none of these was never one of them, and one that has any is damaged.
"""

from hpcfilter.base.errors import InputError
from hpcfilter.base.paths import kind
from hpcfilter.data.distrust import DAMAGE
from hpcfilter.data.hdf5 import hold_hdf5, is_hdf5
from hpcfilter.data.seal import read_seal

HDF5 = b"\x89HDF\r\n\x1a\n"
OURS = {"hpcfilter", "data", "epoch", "options"}  # attributes, of which each file of ours has one


def stranger(path):
    """What a file is that hpcfilter has never made, in words; "" for any other, also when it is
    damaged, empty or not there."""
    try:
        read_seal(path)
        return ""
    except InputError:
        pass
    try:
        if is_hdf5(path):
            with hold_hdf5(path) as file:
                return "" if OURS & set(file.attrs) else "an HDF5 file"
        with open(path, "rb") as file:
            first = file.read(512)
        if HDF5.startswith(first[: len(HDF5)]):  # the beginning of one of ours, perhaps
            return ""
        return kind(path) or ("a text file" if _is_text(first) else "a file of another kind")
    except DAMAGE:
        return ""


def _is_text(first):
    return first.isascii() and "".join(first.decode().split()).isprintable()
