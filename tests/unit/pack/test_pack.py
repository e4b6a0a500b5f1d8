"""Packing: every source gives the same rows, shuffled once, each exactly once; damage is noticed."""

import gzip
import json
import struct

import h5py
import numpy as np
import pytest
from PIL import Image

from hpcfilter.base.errors import InputError
from hpcfilter.data import open_packed
from hpcfilter.data.hdf5 import create_hdf5, write_attribute
from hpcfilter.data.seal import seal
from hpcfilter.pack.pack import pack

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 8, 8), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 40)
TEST_IMAGES, TEST_LABELS = IMAGES[:7] // 2, LABELS[:7]


def write_idx(path, array):
    data = (struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            + array.astype(np.uint8).tobytes())
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def make_npz(folder):
    np.savez(folder / "s.npz", x_train=IMAGES, y_train=LABELS[:, None], x_test=TEST_IMAGES,
             y_test=TEST_LABELS[:, None])
    return folder / "s.npz"


def make_idx(folder):
    for name, array in (("train-images-idx3-ubyte", IMAGES), ("train-labels-idx1-ubyte", LABELS),
                        ("t10k-images-idx3-ubyte", TEST_IMAGES), ("t10k-labels-idx1-ubyte", TEST_LABELS)):
        write_idx(folder / name, array)
    return folder


def make_idx_gz(folder):
    for name, array in (("train-images-idx3-ubyte.gz", IMAGES), ("train-labels-idx1-ubyte.gz", LABELS),
                        ("t10k-images-idx3-ubyte.gz", TEST_IMAGES),
                        ("t10k-labels-idx1-ubyte.gz", TEST_LABELS)):
        write_idx(folder / name, array)
    return folder


def make_h5(folder):
    with h5py.File(folder / "s.h5", "w") as file:
        file.attrs["classes"] = ["a", "b", "c"]
        for split, x, y in (("train", IMAGES, LABELS), ("test", TEST_IMAGES, TEST_LABELS)):
            file.create_dataset(f"{split}/images", data=x, chunks=(7, 8, 8), compression="gzip", shuffle=True)
            file.create_dataset(f"{split}/labels", data=y.astype(">i4"))
    return folder / "s.h5"


def make_folder(folder):
    for split, x, y in (("train", IMAGES, LABELS), ("test", TEST_IMAGES, TEST_LABELS)):
        for number, (image, label) in enumerate(zip(x, y, strict=True)):
            (folder / split / "abc"[label]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / split / "abc"[label] / f"{number:03d}.png")
    return folder


def rows_of(split):
    return sorted((image.tobytes(), int(label))
                  for image, label in zip(split.images, split.labels, strict=True))


@pytest.mark.parametrize("make", [make_npz, make_idx, make_idx_gz, make_h5, make_folder])
def test_every_source_gives_the_same_rows(tmp_path, make):
    (tmp_path / "source").mkdir()
    pack(make(tmp_path / "source"), tmp_path / "p.h5")
    packed = open_packed(tmp_path / "p.h5")
    assert rows_of(packed.train) == sorted((image.tobytes(), int(label))
                                           for image, label in zip(IMAGES, LABELS, strict=True))
    assert (np.array_equal(np.sort(packed.test.labels), np.sort(TEST_LABELS)) and len(packed.classes) == 3
            and packed.layout == "HW")
    assert packed.mean == pytest.approx(IMAGES.mean()) and packed.std == pytest.approx(IMAGES.std())
    packed.check(0, 1, verify=True)


def test_origin_says_where_a_row_comes_from(tmp_path):
    pack(make_npz(tmp_path), tmp_path / "p.h5", seed=4)
    with h5py.File(tmp_path / "p.h5") as file:
        origin = file["train/origin"][:]
        assert (np.array_equal(file["train/images"][:], IMAGES[origin])
                and np.array_equal(file["train/labels"][:], LABELS[origin]))
        assert not np.array_equal(origin, np.arange(40)) and sorted(origin) == list(range(40))
        assert json.loads(file.attrs["about"])["seed"] == 4
        assert file["train/images"].chunks is None


def test_a_source_without_test_rows_is_split(tmp_path):
    np.savez(tmp_path / "s.npz", images=IMAGES, labels=LABELS)
    pack(tmp_path / "s.npz", tmp_path / "p.h5", test_fraction=0.25)
    packed = open_packed(tmp_path / "p.h5")
    assert (len(packed.train), len(packed.test)) == (30, 10)
    assert (sorted(rows_of(packed.train) + rows_of(packed.test))
            == sorted((i.tobytes(), int(y)) for i, y in zip(IMAGES, LABELS, strict=True)))


def test_the_seed_decides_and_is_recorded(tmp_path):
    source = make_npz(tmp_path)
    digests = [pack(source, tmp_path / "p.h5", seed=seed, replace=True)
               and open_packed(tmp_path / "p.h5").digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_moments_survive_an_offset(tmp_path):
    x = 1e9 + RNG.choice([-1, 1], (1000, 4)) * np.array([1, 2, 4, 8])
    np.savez(tmp_path / "s.npz", x=x, y=RNG.random(1000))
    pack(tmp_path / "s.npz", tmp_path / "p.h5")
    packed = open_packed(tmp_path / "p.h5")
    assert packed.mean == pytest.approx(1e9) and packed.std == pytest.approx([1, 2, 4, 8], rel=0.01), (
        "each feature has its own")


def test_regression_targets_of_any_shape(tmp_path, regression):
    packed = open_packed(regression)
    assert packed.classes == [] and packed.train.labels.shape == (200, 2) and packed.layout == ""
    np.savez(tmp_path / "b.npz", images=IMAGES, labels=LABELS > 0)
    pack(tmp_path / "b.npz", tmp_path / "b.h5")
    assert open_packed(tmp_path / "b.h5").classes == ["0", "1"]
    np.savez(tmp_path / "m.npz", images=RNG.random((10, 4, 4)), labels=RNG.integers(0, 2, (10, 4, 4)))
    pack(tmp_path / "m.npz", tmp_path / "m.h5")
    assert open_packed(tmp_path / "m.h5").target == "int64 targets of shape (4, 4)"
    np.savez(tmp_path / "n.npz", images=IMAGES, labels=LABELS)
    pack(tmp_path / "n.npz", tmp_path / "n.h5", regression=True)
    assert open_packed(tmp_path / "n.h5").classes == []


def test_fashion_mnist_is_packed_exactly(tmp_path, shared_data):
    pack(shared_data / "fashion_mnist.h5", tmp_path / "f.h5")
    packed = open_packed(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5") as file, h5py.File(shared_data / "fashion_mnist.h5") as source:
        assert np.array_equal(file["train/images"][:], source["train/images"][:][file["train/origin"][:]])
        assert np.array_equal(file["test/images"][:], source["test/images"][:])
    assert packed.classes[0] == "T-shirt/top" and (len(packed.train), len(packed.test)) == (60000, 10000)


def test_mosaics_of_jpeg(tmp_path, shared_data):
    with h5py.File(shared_data / "cifar10_q90.h5") as source:
        jpeg = source["test/mosaics_jpeg"][: source["test/offsets"][1]]
        with h5py.File(tmp_path / "s.h5", "w") as file:
            file["train/mosaics_jpeg"], file["train/offsets"] = jpeg, np.array([0, len(jpeg)])
            file["train/labels"] = source["test/labels"][:1000]
    pack(tmp_path / "s.h5", tmp_path / "p.h5")
    packed = open_packed(tmp_path / "p.h5")
    assert (packed.train.images.shape == (800, 32, 32, 3) and packed.layout == "HWC"
            and packed.mean.shape == (3,))
    assert 100 < packed.mean.mean() < 140


def refused(message, source, target, **options):
    before = sorted(target.parent.iterdir())
    with pytest.raises(InputError, match=message):
        pack(source, target, **options)
    assert sorted(target.parent.iterdir()) == before


def test_bad_sources_are_refused(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    target = out / "p.h5"
    refused("nowhere: no such file or folder", tmp_path / "nowhere", target)
    np.savez(tmp_path / "odd.npz", foo=IMAGES, bar=LABELS)
    refused("found the arrays foo, bar; expected rows and labels.*--images NAME --labels NAME",
            tmp_path / "odd.npz", target)
    np.savez(tmp_path / "uneven.npz", images=IMAGES, labels=LABELS[:5])
    refused("got 40 images and 5 labels", tmp_path / "uneven.npz", target)
    (tmp_path / "notes.txt").write_text("1,2")
    refused("not a data set that pack knows", tmp_path / "notes.txt", target)
    (tmp_path / "broken.npz").write_bytes(b"PK nonsense")
    refused("broken.npz: cannot read", tmp_path / "broken.npz", target)
    with h5py.File(tmp_path / "range.h5", "w") as file:
        file.attrs["classes"] = ["a", "b"]
        file["images"], file["labels"] = IMAGES, LABELS
    refused("label 2 in row .*, expected 0 to 1", tmp_path / "range.h5", target)
    np.savez(tmp_path / "negative.npz", images=IMAGES, labels=LABELS - 1)
    refused("label -1 in row", tmp_path / "negative.npz", target)
    for fraction in (0, 1, -1, float("nan"), 1e-9):
        refused(f"test fraction {fraction} of 1797 rows", "digits", target, test_fraction=fraction)
    refused("layout: got HWC for rows of shape", "digits", target, layout="HWC")
    np.savez(tmp_path / "ids.npz", images=IMAGES, labels=LABELS + 10**15)
    refused("got labels up to 10000000000000.. in 40 rows.*--regression", tmp_path / "ids.npz", target)
    np.savez(tmp_path / "nan.npz", images=np.where(IMAGES > 250, np.nan, IMAGES), labels=LABELS)
    refused("nan.npz: images, labels: 26 rows of the .* row 3, 6, .*: "
            "3 of its 64 values are NaN in the first", tmp_path / "nan.npz", target)
    np.savez(tmp_path / "scalars.npz", images=np.float32(1), labels=LABELS)
    refused("scalars.npz", tmp_path / "scalars.npz", target)
    np.savez_compressed(tmp_path / "deflated.npz", images=IMAGES, labels=LABELS)
    damage(tmp_path / "deflated.npz", 200)
    refused("deflated.npz: cannot read", tmp_path / "deflated.npz", target)
    with h5py.File(tmp_path / "classes.h5", "w") as file:
        file["images"], file["labels"], file.attrs["classes"] = IMAGES, LABELS, 10
    refused("classes.h5: cannot read", tmp_path / "classes.h5", target)
    with pytest.raises(InputError, match="no folder"):
        pack("digits", tmp_path / "missing" / "p.h5")
    idx = tmp_path / "idx"
    idx.mkdir()
    write_idx(idx / "train-images-idx3-ubyte", IMAGES)
    refused("expected its labels beside it", idx, target)
    write_idx(idx / "train-labels-idx1-ubyte", LABELS)
    (idx / "train-images-idx3-ubyte").write_bytes((idx / "train-images-idx3-ubyte").read_bytes()[:100])
    refused("got 100 bytes, expected 2576", idx, target)
    images = tmp_path / "folder" / "a"
    images.mkdir(parents=True)
    Image.fromarray(IMAGES[0]).save(images / "0.png")
    Image.fromarray(IMAGES[0][:4]).save(images / "1.png")
    refused(r"2 sizes: 1 of 8 x 8 pixels \(0.png\), 1 of 8 x 4 pixels \(1.png\); give --size",
            tmp_path / "folder", target, test_fraction=0.5)
    pack(tmp_path / "folder", target, test_fraction=0.5, size=(6, 6))
    refused("is there already; give --replace", "digits", target)


def damage(path, where, value=0x10):
    data = bytearray(path.read_bytes())
    data[where] ^= value
    path.write_bytes(data)


def test_damage_is_noticed_and_named(tmp_path):
    path = tmp_path / "p.h5"
    np.savez(tmp_path / "s.npz", x=RNG.integers(0, 256, (40, 300, 300), dtype=np.uint8), y=LABELS)
    pack(tmp_path / "s.npz", path, test_fraction=0.25)
    whole, packed = path.read_bytes(), open_packed(path)
    for array, place, message in (
            (packed.train.images, 0,
             r"bytes 0 to 1048575 \(train/images: rows 0 to 11\) differ from their checksum"),
            (packed.train.images, 25 * 300 * 300, r"train/images: rows 23 to 29, train/labels: rows 0 to 29"),
            (packed.test.images, -1, "test/images: rows 4 to 9, test/labels: rows 0 to 9"),
            (packed.test.labels, 3, "test/labels: rows 0 to 9")):
        path.write_bytes(whole)
        damage(path, array.offset + place % array.nbytes)
        with pytest.raises(InputError, match=message):
            open_packed(path).check(0, 1, verify=True)


def test_truncation_is_noticed_at_once(tmp_path):
    path = tmp_path / "p.h5"
    pack(make_npz(tmp_path), path)
    whole = path.read_bytes()
    for length in (0, 10, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="p.h5"):
            open_packed(path)


def test_what_is_not_packed_is_refused(tmp_path):
    source = make_h5(tmp_path)
    with pytest.raises(InputError, match="not a packed file of format 2; make one with: hpcfilter pack"):
        open_packed(source)
    with pytest.raises(InputError, match="missing.h5: cannot read"):
        open_packed(tmp_path / "missing.h5")
    with h5py.File(source, "r+") as file:
        file.attrs["hpcfilter"] = "1"  # as format 1 had it, without a seal
    with pytest.raises(InputError, match="pack it again"):
        open_packed(source)


@pytest.mark.parametrize("change", [{"mean": [1, 2]}, {"mean": [float("inf")]}, {"std": [0]}, {"classes": 3},
                                    {"layout": "CHW"}, {"name": None}])
def test_what_a_file_says_of_itself_must_make_sense(tmp_path, change):
    path = tmp_path / "p.h5"
    about = pack(make_npz(tmp_path), path)
    with create_hdf5(path, "r+") as file:
        write_attribute(file, "about", json.dumps(about | change))
    seal(path)
    with pytest.raises(InputError, match="p.h5"):
        open_packed(path)
