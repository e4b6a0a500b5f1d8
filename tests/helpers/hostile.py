"""A corpus of hostile files: `CASES`, name -> (opener, a part of the message that must refuse it, name of the
file, function (path) that makes it).

Each is made in a folder that holds `secret.txt`, and `pipe`: whoever opens that one hangs.
"""

import gzip
import pickle
import struct
import zipfile
import zlib

import h5py
import numpy as np
from hostile_bytes import IMAGES, LABELS, ROWS, Touch, drawn, idx, member, mosaics, npy, picture

from hpcfilter.data import write_table
from hpcfilter.data.hdf5 import create_hdf5
from hpcfilter.data.seal import seal
from hpcfilter.pack.pack import pack

SECRET = "what stands in a file that nobody was to read\n" * 100
CASES = {}


# ---- good files, into which something hostile is planted: function (file, name of the place)

def source(path, plant=None, place="train/images", **attributes):
    """An HDF5 file for `pack`, in the oldest format, which has no checksums."""
    with h5py.File(path, "w", libver="earliest") as file:
        file["train/images"], file["train/labels"], file["test/images"], file["test/labels"] = (
            IMAGES, LABELS, IMAGES[:7], LABELS[:7])
        file.attrs.update(attributes)
        replace(file, plant, place)


def source_of_chunks(path):
    source(path, lambda file, name: file.create_dataset(name, data=IMAGES, chunks=(7, 8, 8),
                                                        compression="gzip", shuffle=True))


def packed(path, plant=None, place="train/images"):
    np.savez(path.with_suffix(".npz"), images=IMAGES, labels=LABELS)
    pack(path.with_suffix(".npz"), path)
    sealed(path, plant, place)


def table(path, plant=None, place="weight"):
    write_table(path, ROWS, {name: (np.float32, [np.ones(ROWS, np.float32)])
                             for name in ("importance", "weight")}, {"data": "any", "kept": 3})
    sealed(path, plant, place)


def sealed(path, plant, place):
    """The seal fits: whoever makes a hostile file can make that too."""
    with create_hdf5(path, "r+") as file:
        replace(file, plant, place)
    seal(path)


def replace(file, plant, place):
    if plant:
        if place in file:
            del file[place]
        plant(file, place)


MAKERS = {"source": source, "packed": packed, "table": table}


def case(kind, opener, message, make, **more):
    CASES[f"{opener}: {kind}"] = (opener, message, "f.h5", lambda path: make(path, **more))


# ---- arrays that are not what they seem, in each kind of file

def virtual():
    """Its length is that of an array in another file, which is opened when the length is asked for."""
    layout = h5py.VirtualLayout((ROWS,), np.uint8, maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED] = h5py.VirtualSource("pipe", "x", (ROWS,),
                                                      maxshape=(None,))[: h5py.h5s.UNLIMITED]
    return layout


def chunks(file, name, shape, chunk, streams):
    """Bytes in chunks, stored as these gzip streams."""
    data = file.create_dataset(name, shape, np.uint8, chunks=chunk, maxshape=(None,) * len(shape),
                               compression="gzip")
    for number, stream in enumerate(streams):
        data.id.write_direct_chunk((number * chunk[0], *(len(shape) - 1) * [0]), stream)


def odd_numbers(file, name):
    """Floats with another bias of the exponent than those of IEEE 754."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    file.create_dataset(name, (ROWS,), h5py.Datatype(kind))


MIB, IDX = 1 << 20, "train-images-idx3-ubyte"
ELSEWHERE, ODD, ROWLESS = ("expected an array in the file itself", "expected numbers of a common type",
                           "expected an array of at least one row")
PARTLY = "it was never written in full"
for kind, message, hostile in (
        ("external storage", ELSEWHERE, lambda file,
         name: file.create_dataset(name, (ROWS, 64), np.uint8, external=[("secret.txt", 0, ROWS * 64)])),
        ("external link", ELSEWHERE, lambda file, name: file.update({name: h5py.ExternalLink("pipe", "/x")})),
        ("soft link", ELSEWHERE, lambda file, name: file.update({name: h5py.SoftLink("/test/images")})),
        ("soft loop", ELSEWHERE, lambda file, name: file.update({name: h5py.SoftLink("/" + name)})),
        ("virtual", ELSEWHERE, lambda file, name: file.create_virtual_dataset(name, virtual())),
        ("group", "expected an array, got a group", lambda file, name: file.create_group(name)),
        ("references", ODD,
         lambda file, name: file.create_dataset(name, data=[file.ref] * ROWS, dtype=h5py.ref_dtype)),
        ("lists", ODD, lambda file, name: file.create_dataset(name, (ROWS,), h5py.vlen_dtype(np.uint8))),
        ("texts", ODD, lambda file, name: file.create_dataset(name, data=["text"] * ROWS)),
        ("records", ODD, lambda file, name: file.create_dataset(name, data=np.zeros(ROWS, "u1,f4"))),
        ("scalar", ROWLESS, lambda file, name: file.create_dataset(name, data=3)),
        ("nothing", ROWLESS, lambda file, name: file.create_dataset(name, data=h5py.Empty("u1"))),
        ("odd numbers", ODD, odd_numbers),
        ("8 PiB", PARTLY,
         lambda file, name: file.create_dataset(name, (1 << 50, 8), np.uint8, chunks=(MIB, 8))),
        ("8 PiB at once", "never written",
         lambda file, name: file.create_dataset(name, (1 << 50, 8), np.uint8)),
        ("overflow", PARTLY, lambda file, name: file.create_dataset(name, (1 << 33, 1 << 33), np.uint8,
                                                                    chunks=(1 << 15, 1 << 15))),
        ("one chunk of many", PARTLY,
         lambda file, name: chunks(file, name, (ROWS, 8, 8), (8, 8, 8), [zlib.compress(bytes(512))])),
        ("the last of 2**31 chunks", PARTLY,
         lambda file, name: file.create_dataset(name, (1 << 31,), np.uint8, maxshape=(None,), chunks=(1,))
         .__setitem__(-1, 1)),
        ("bomb", "declare to become",
         lambda file, name: chunks(file, name, (256 * MIB,), (MIB,), 256 * [zlib.compress(bytes(MIB))])),
        ("chunk beyond its array", "declare to become",
         lambda file, name: chunks(file, name, (ROWS,), (1 << 30,), [zlib.compress(b"")])),
        ("filter", "got the filters 6 (scaleoffset)",
         lambda file, name: file.create_dataset(name, data=IMAGES, chunks=(8, 8, 8), scaleoffset=0)),
):
    for opener, maker in MAKERS.items():
        no_rows = "found the labels train/labels, and no rows for them"
        case(kind, opener, no_rows if (kind, opener) == ("group", "source") else message, maker,
             plant=hostile)
for kind, message, hostile in (
        ("train linked elsewhere", ELSEWHERE,
         lambda file, name: file.update({name: h5py.ExternalLink("pipe", "/train")})),
        ("train linked to itself", ELSEWHERE,
         lambda file, name: file.update({name: h5py.SoftLink("/train")})),
        ("train an array", "missing", lambda file, name: file.update({name: IMAGES})),
):
    case(kind, "packed", message, packed, plant=hostile, place="train")
    case(kind, "source", message.replace("missing", "found rows for test and none for training"), source,
         plant=hostile, place="train")
# in the library the first takes 256 MiB of memory, the second reads beyond the end of its own
for kind, message, streams in (
        ("a chunk that holds more", "holds less than it should, or more",
         lambda: [zlib.compress(bytes(256 * MIB), 1)]),
        ("a chunk that holds less", "the chunk at (0, 0, 0): holds 10 bytes, expected 3200000",
         lambda: [zlib.compress(b"x" * 10) + bytes(MIB)]),
        ("a chunk that breaks off", "holds less than it should", lambda: [zlib.compress(IMAGES)[:-9]]),
):
    case(kind, "source", message, source,
         plant=lambda file, name, streams=streams: chunks(file, name, (ROWS, 8, 8),
                                                          (50_000, 8, 8), streams()))
case("columns in one place", "table", "each a place of its own", table,
     plant=lambda file, name: file.update({f"{name}{number}": file["importance"] for number in range(50)}))

# ---- what a file says of itself

LOOSE = "expected a number or a text of fixed length"
case("text of any length", "packed", LOOSE, packed, plant=lambda file, name: file.attrs.update(about="{}"),
     place="none")
case("text of any length", "table", LOOSE, table, plant=lambda file, name: file.attrs.update(score="x"),
     place="none")
case("many numbers", "table", LOOSE, table, plant=lambda file, name: file.attrs.update(kept=np.zeros(MIB)),
     place="none")
case("a reference", "table", LOOSE, table,
     plant=lambda file, name: file.attrs.create("kept", file.ref, dtype=h5py.ref_dtype), place="none")
case("no digest", "packed", "with about and digest", packed,
     plant=lambda file, name: file.attrs.pop("digest"), place="none")
case("nested without end", "packed", "about: expected a text that is JSON", packed, place="none",
     plant=lambda file, name: file.attrs.update(about=np.bytes_(b"[" * 50000)))
case("another dtype of name", "source", "expected a text or a list of texts", source, name=np.arange(4))
case("class names of two axes", "source", "expected a text or a list of texts", source,
     class_names=np.full((2, 2), b"a"))
case("classes of deep JSON", "source", "cannot read: ", source, classes="[" * 50000)


# ---- bytes that no library wrote: nonsense for the HDF5 library itself

def patched(path, change, **more):
    """A source in which `change` has changed the bytes (bytearray)."""
    source(path, **more)
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def put(data, pattern, further, new):
    assert data.count(pattern) == 1
    at = data.index(pattern) + further
    data[at : at + len(new)] = new


def one_chunk_in_64_places(data):
    """Entries of a B-tree node: (stored bytes, mask, place, 0, address) each, then the place
    where they end."""
    begin = data.index(b"TREE\x01") + 24
    size, _, _, _, address = struct.unpack_from("<IIQQQ", data, begin)
    for number in range(64):
        struct.pack_into("<IIQQQ", data, begin + 32 * number, size, 0, number * MIB, 0, address)
    struct.pack_into("<IIQQ", data, begin + 32 * 64, 0, 0, 64 * MIB, 0)
    struct.pack_into("<H", data, begin - 18, 64)


def longer_object(data):
    """The first object of the heap is declared to be 16 bytes longer than it is."""
    size = data.index(b"GCOL") + 24
    struct.pack_into("<Q", data, size, struct.unpack_from("<Q", data, size)[0] + 16)


TEXT, PLACE = "x" * 777, struct.pack("<QQQ", ROWS, 8, 8)
for kind, message, change in (
        ("a text of 2 GiB", "cannot read",
         lambda data: put(data, struct.pack("<IQI", 777, data.index(b"GCOL"), 1), 0, b"\0\0\0\x80")),
        ("a heap that the library reads without end", "keeps the HDF5 library busy",
         lambda data: put(data, b"GCOL", 24, struct.pack("<Q", 776))),
        ("a heap beyond the file", "cannot read",
         lambda data: put(data, b"GCOL", 8, struct.pack("<Q", 1 << 62))),
        ("an array beyond the file", "cannot read",
         lambda data: put(data, struct.pack("<QQ", data.index(IMAGES.tobytes()), IMAGES.nbytes), 0,
                          struct.pack("<Q", 1 << 40))),
        ("more rows than memory", "cannot read",
         lambda data: data.__setitem__(slice(None), data.replace(PLACE, struct.pack("<QQQ", 1 << 61, 8, 8)))),
):
    case(kind, "source", message, patched, change=change, name=TEXT)
case("a heap of a virtual array", "source", "keeps the HDF5 library busy", patched, change=longer_object,
     plant=lambda file, name: file.create_virtual_dataset(name, virtual()))
case("one chunk in many places", "source", "declare to become", patched, change=one_chunk_in_64_places,
     plant=lambda file, name: chunks(file, name, (64 * MIB,), (MIB,),
                                     [zlib.compress(bytes(MIB)) + bytes(8000)]))


# ---- other sources

JPEG, ROW_OF_64_MIB = drawn("JPEG", 64, 64), struct.pack(">HBBI", 0, 8, 1, 64 * MIB)
for kind, ending, message, make in (
        ("npz bomb", "s.npz", "declare to become",
         lambda path: member(path, npy((64, MIB), bytes(64 * MIB)))),
        ("npz header", "s.npz", "expected 1099511627904 for uint8",
         lambda path: member(path, npy((1 << 40,)))),
        ("npz pickle", "s.npz",
         "images.npy", lambda path: np.savez(path, images=np.array([Touch()] * ROWS), labels=LABELS)),
        ("npz compression", "s.npz", "got compression 12",
         lambda path: member(path, npy((ROWS,), bytes(ROWS)), zipfile.ZIP_BZIP2)),
        ("a pickle", "s.npz", "cannot read", lambda path: path.write_bytes(pickle.dumps(Touch()))),
        ("idx bomb", f"{IDX}.gz", "declare to become",
         lambda path: idx(path, gzip.compress(ROW_OF_64_MIB + bytes(64 * MIB)))),
        ("idx header",
         IDX, "declare to become", lambda path: idx(path, struct.pack(">HBBII", 0, 8, 2, 1 << 31, 1 << 31))),
        ("idx axes", IDX, "cannot read", lambda path: idx(path, b"\0\0\x08\xff" + bytes(4 * 255))),
        ("image bomb", "", "declare to become",
         lambda path: picture(path, "0.png", drawn("PNG", 6000, 6000))),
        ("a program as an image", "", "cannot identify it as",
         lambda path: picture(path, "0.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")),
        ("mosaic size", "s.h5", "got 64 x 64 pixels, expected 1280 x 800",
         lambda path: mosaics(path, JPEG, [0, len(JPEG)])),
        ("mosaic bomb", "s.h5", "decompression bomb",
         lambda path: mosaics(path, JPEG.replace(b"\0\x40\0\x40", 4 * b"\xff"), [0, len(JPEG)])),
        ("mosaic offsets", "s.h5", "expected offsets that grow",
         lambda path: mosaics(path, JPEG, [-1, len(JPEG)])),
        ("mosaic end", "s.h5", "expected offsets that grow", lambda path: mosaics(path, JPEG, [0, 1 << 40])),
        ("mosaic count", "s.h5", "expected bytes and 2 integers",
         lambda path: mosaics(path, JPEG, [0, 1, 2])),
):
    CASES[f"source: {kind}"] = ("source", message, ending, make)
