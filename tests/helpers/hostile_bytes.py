"""Files of other programs, byte by byte."""

import io
import zipfile

import h5py
import numpy as np
from PIL import Image

ROWS = 40
IMAGES = np.random.default_rng(0).integers(0, 256, (ROWS, 8, 8), dtype=np.uint8)
LABELS = np.arange(ROWS) % 3


def member(path, data, compression=zipfile.ZIP_DEFLATED):
    """An .npz file whose images are this member."""
    np.savez(path, labels=LABELS)
    with zipfile.ZipFile(path, "a", compression) as archive:
        archive.writestr("images.npy", data)


def npy(shape, data=b""):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue() + data


class Touch:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return open, ("touched", "w")


def idx(path, data):
    path.write_bytes(data)
    path.with_name(path.name.replace("images-idx3", "labels-idx1")).write_bytes(data)


def picture(path, name, data):
    (path / "class").mkdir(parents=True)
    (path / "class" / name).write_bytes(data)


def drawn(form, *size):
    file = io.BytesIO()
    Image.new("L", size).save(file, form)
    return file.getvalue()


def mosaics(path, jpeg, offsets):
    with h5py.File(path, "w") as file:
        file["labels"], file["mosaics_jpeg"], file["offsets"] = (LABELS, np.frombuffer(jpeg, np.uint8),
                                                                 np.array(offsets))
