"""Sources that look like one thing and are another: what `pack` took for granted once, and what
it says or refuses now."""

import io

import h5py
import numpy as np
import pytest
from packs import packed
from PIL import Image

from hpcfilter.base.errors import InputError
from hpcfilter.pack.pack import pack

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 4


def refused(message, source, tmp_path, **options):
    with pytest.raises(InputError, match=message):
        packed(source, tmp_path, **options)


def pictures(folder, contents):
    """contents: place -> array of images, or how many of X."""
    for place, images in contents.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(X[:images] if isinstance(images, int) else images):
            Image.fromarray(image).save(folder / place
                                        / f"{number:02}.{'tif' if image.dtype == np.float32 else 'png'}")
    return folder


# ---- tables

@pytest.mark.parametrize("head, rows, names", [
    ("0,1,2,target", "{0}.5,{1},2,{2}", 3), ("0,1,2,3", "{0}.5,{1},2,{2}", 3),
    ("label,0,1", "{2},{0},{1}", 2), (",0,1,target", "{0},{0},{1},{2}", 3),
    ("0,1,2,target", "{0},{1},2,cat{2}", 3), ("", "{0}.5,{1},2,cat{2}", 3), ("", "{0}.5,{1},2,{2}", 3),
    ("a b y", "{0} {1} {2}", 2), ("", "{0} {1} {2}", 2),
])
def test_the_head_of_a_table_is_no_row(tmp_path, head, rows, names):
    pytest.importorskip("pyarrow", reason="tables need pyarrow")
    lines = [rows.format(number + 7, number % 5 + 3, number % 2) for number in range(20)]
    (tmp_path / "s.csv").write_text("\n".join([head, *lines] if head else lines))
    found, labels, data, _ = packed(tmp_path / "s.csv", tmp_path)
    assert (found.shape == (20, names) and data.classes in (["0", "1"], ["cat0", "cat1"])
            and labels.tolist() == [number % 2 for number in range(20)])


@pytest.mark.parametrize("first, second, message", [
    ("a,b,label", "b,a,label", "has the columns label, b, a, expected label, a, b"),
    ("a,b,label", "c,d,label", "has the columns label, c, d"),
    ("a,a,label", "a,a,label", "several columns of the name a"),
    ("a,b,label", "a,b,y", "has the columns y, a, b"),
])
def test_tables_are_joined_by_the_names_of_their_columns(tmp_path, first, second, message):
    pytest.importorskip("pyarrow", reason="tables need pyarrow")
    for name, head in (("p0.csv", first), ("p1.csv", second)):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_text(head + "\n" + "\n".join(f"{number},{number + 1},{number % 2}"
                                                                     for number in range(10)))
    refused(message, tmp_path / "set", tmp_path)


def test_empty_cells_are_values_that_are_not_finite_and_words_stay_words(tmp_path):
    pytest.importorskip("pyarrow", reason="tables need pyarrow")
    lines = [f"{'' if number == 5 else number},{'NA' if number % 2 else 'ZA'}" for number in range(20)]
    (tmp_path / "s.csv").write_text("a,label\n" + "\n".join(lines))
    refused(r"empty cells in a \(1\): 1 rows of the images cannot be trained on, row 5: "
            r"1 of its 1 values are NaN.*--skip-damaged 1", tmp_path / "s.csv", tmp_path)
    assert packed(tmp_path / "s.csv", tmp_path, skip_damaged=1)[2].classes == ["NA", "ZA"]


# ---- splits and shards that do not go together

def test_shards_with_other_classes_are_joined_by_their_names(tmp_path):
    (tmp_path / "set").mkdir()
    for name, classes in (("a", ["cat", "dog"]), ("b", ["dog", "emu"])):
        with h5py.File(tmp_path / "set" / f"{name}.h5", "w") as file:
            file["images"], file["labels"], file.attrs["class_names"] = X, Y % 2, classes
    _, labels, data, _ = packed(tmp_path / "set", tmp_path)
    assert data.classes == ["cat", "dog", "emu"]
    assert ([data.classes[label] for label in labels] == [("cat", "dog")[y] for y in Y % 2]
            + [("dog", "emu")[y] for y in Y % 2])


@pytest.mark.parametrize("arrays, message", [
    (dict(x_train=X, y_train=Y, x_test=X / 255, y_test=Y),
     "test rows of type float64 .*expected uint8 as in training"),
    (dict(x_train=X, y_train=Y, x_test=X.astype(np.uint16), y_test=Y), "test rows of type uint16"),
    (dict(x_train=X, y_train=Y, x_test=X, y_test=Y.astype(np.float32)),
     "test labels of type float32 .*training|train labels of type int64"),
    (dict(x_train=X, y_train=np.eye(4)[Y], x_test=X, y_test=Y),
     r"test labels of shape \(40,\) .*train labels of shape \(40, 4\)"),
    (dict(x_train=X[:, 0, 0], y_train=Y, x_test=X[:, 0, 0], y_test=Y),
     r"rows of a single number each; expected shape \(n, 1\)"),
])
def test_splits_of_other_types_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "s.npz", **arrays)
    refused(message, tmp_path / "s.npz", tmp_path)


def test_splits_of_images_of_other_kinds_are_refused(tmp_path):
    refused("test rows of type uint16",
            pictures(tmp_path / "a", {"train/a": 4, "train/b": 4, "test/a": X[:3].astype(np.uint16) * 257}),
            tmp_path)
    refused("test rows of type float32",
            pictures(tmp_path / "b", {"train/a": 4, "train/b": 4, "test/a": X[:3].astype(np.float32)}),
            tmp_path)


def test_a_path_given_twice_is_refused(tmp_path):
    np.savez(tmp_path / "s.npz", x=X, y=Y)
    refused("s.npz: is given twice", [tmp_path / "s.npz", str(tmp_path / "*.npz")], tmp_path)


# ---- folders

@pytest.mark.parametrize("contents, message", [
    ({"train": 4, "test": 3}, "are named after splits and hold images, but no class folders"),
    ({"train/images": 4, "train/labels": 4, "val/images": 2, "val/labels": 2},
     "holds images/, labels/, which are no classes"),
    ({"bus/day1": 3, "car/day1": 3, "train/day1": 3},
     "train/ may be the training rows, or a class beside bus/, car/"),
])
def test_folders_that_are_no_classes_are_refused(tmp_path, contents, message):
    refused(message, pictures(tmp_path / "set", contents), tmp_path)


def test_splits_inside_the_class_folders(tmp_path):
    data = packed(pictures(tmp_path / "set", {"cat/train": 5, "cat/test": 2, "dog/train": 4, "dog/test": 3}),
                  tmp_path)[2]
    assert (data.classes == ["cat", "dog"] and np.bincount(data.train.labels).tolist() == [5, 4]
            and np.bincount(data.test.labels).tolist() == [2, 3])


def test_regression_on_folders_takes_their_numbers(tmp_path):
    _, labels, data, _ = packed(pictures(tmp_path / "set", {"10": 4, "20": 4, "5": 4}), tmp_path,
                                regression=True)
    assert data.classes == [] and sorted(labels.reshape(-1).tolist()) == [5] * 4 + [10] * 4 + [20] * 4
    refused("the labels are words, such as", pictures(tmp_path / "other", {"cat": 4, "dog": 4}), tmp_path,
            regression=True)


def test_renumbered_classes_keep_their_names(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["images"], file["labels"], file.attrs["class_names"] = X, Y // 2 * 2, ["a", "b", "c"]
    assert packed(tmp_path / "s.h5", tmp_path, renumber=True)[2].classes == ["a", "c"]


@pytest.mark.parametrize("name, labels", [("data.npy", "labels.npy"), ("images.npy", "targets.npy"),
                                          ("x_train.npy", "y_train.npy")])
def test_labels_beside_rows_are_found(tmp_path, name, labels):
    np.save(tmp_path / name, X)
    np.save(tmp_path / labels, Y)
    assert np.array_equal(packed(tmp_path / name, tmp_path)[1], Y)
    (tmp_path / "elsewhere").mkdir()
    np.save(tmp_path / "elsewhere" / "own.npy", 3 - Y)
    (tmp_path / labels).unlink()
    assert np.array_equal(packed(tmp_path / name, tmp_path,
                                 labels=str(tmp_path / "elsewhere" / "own.npy"))[1], 3 - Y)


def test_files_beside_the_data_are_said(tmp_path):
    source = pictures(tmp_path / "set", {"a": 4, "b": 4})
    (source / "labels.csv").write_text("x")
    assert ("1 files beside the class folders of set/ that are no images: "
            "labels.csv" in packed(source, tmp_path)[3])
    (tmp_path / "shards" / "more").mkdir(parents=True)
    np.savez(tmp_path / "shards" / "part1.npz", x=X, y=Y)
    (tmp_path / "shards" / "._part1.npz").write_text("x")
    said = packed(tmp_path / "shards", tmp_path)[3]
    assert "1 other files and folders of shards/: more/" in said and "1 hidden" in said
    (tmp_path / "shards" / "README.md").write_text("x")
    assert "1 documents: README.md" in packed(tmp_path / "shards", tmp_path)[3]


# ---- images that Pillow would cut down, or has changed

def tiff(bands, kind="uint8"):
    """An uncompressed TIFF of so many bands, which Pillow cannot write. The bands beyond the third have no
    meaning (ExtraSamples = 0)."""
    import struct

    pixels = RNG.integers(0, 256, (8, 8, bands), np.uint8)
    entries = [(256, 3, 1, 8), (257, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 2 if bands > 2 else 1),
               (273, 4, 1, 0), (277, 3, 1, bands), (278, 3, 1, 8), (279, 4, 1, pixels.nbytes), (284, 3, 1, 1)]
    bits, extra = struct.pack(f"<{bands}H", *[8] * bands), struct.pack(f"<{bands - 3}H", *[0] * (bands - 3))
    count = len(entries) + 2
    at = 8 + 2 + 12 * count + 4
    entries += [(258, 3, bands, at), (338, 3, bands - 3, at + len(bits) if len(extra) > 4
                                      else int.from_bytes(extra.ljust(4, b"\0"), "little"))]
    start = at + len(bits) + (len(extra) if len(extra) > 4 else 0)
    entries = sorted((tag, form, number, start if tag == 273 else value)
                     for tag, form, number, value in entries)
    head = (b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", count)
            + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4))
    return head + bits + (extra if len(extra) > 4 else b"") + pixels.tobytes()


@pytest.mark.parametrize("bands", [4, 5, 6])
def test_bands_that_pillow_leaves_out_are_not_lost(tmp_path, bands):
    for number in range(4):
        (tmp_path / "set" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "ab"[number % 2] / f"{number}.tif").write_bytes(tiff(bands))
    refused(f"holds {bands} bands, of which Pillow reads 3", tmp_path / "set", tmp_path)


def test_grey_values_of_few_bits_are_said(tmp_path):
    (tmp_path / "set" / "a").mkdir(parents=True)
    image = Image.fromarray(X[0] // 16 * 17).convert("L")
    for number in range(5):
        file = io.BytesIO()
        image.quantize(16).save(file, "PNG", bits=4)
        (tmp_path / "set" / "a" / f"{number}.png").write_bytes(file.getvalue())
    packed(tmp_path / "set", tmp_path)  # a palette keeps its colours
    for number in range(5):
        Image.fromarray(X[0] > 127).save(tmp_path / "set" / "a" / f"{number}.png")
    assert set(np.unique(packed(tmp_path / "set", tmp_path)[0])) == {0, 255}


# ---- options that would come to nothing, and numbers that cannot be told apart

@pytest.mark.parametrize("options, message", [
    ({"size": (4, 4)}, "--size: is for image files, and s holds arrays"),
    ({"first_frame": True}, "--first-frame: is for image files"),
    ({"test_fraction": 0.5}, "--test-fraction: is for a source without test rows"),
    ({"by_class": False}, "--split: is for a source without test rows"),
])
def test_options_that_would_come_to_nothing_are_refused(tmp_path, options, message):
    np.savez(tmp_path / "s.npz", x_train=X, y_train=Y, x_test=X, y_test=Y)
    refused(message, tmp_path / "s.npz", tmp_path, **options)


def test_names_where_nothing_has_one_are_refused(tmp_path):
    refused("--labels: got y, but digits has no arrays", "digits", tmp_path, labels="y")
    refused("--images: got x, but a folder of images", pictures(tmp_path / "set", {"a": 4, "b": 4}),
            tmp_path, images="x")


def test_numbers_that_float32_cannot_tell_apart_are_said(tmp_path):
    x = np.c_[1.7e9 + np.arange(40), np.arange(40) / 2]
    np.savez(tmp_path / "s.npz", x=x, y=1.7e9 + np.arange(40.0))
    said = packed(tmp_path / "s.npz", tmp_path)[3]
    assert "images: values around 1.7e+09 that differ by" in said and "in column 0 of the last axis" in said
    assert "labels: values of 1700000000 to 1700000039: training is in float32" in said
    about = pack(tmp_path / "s.npz", tmp_path / "p.h5", replace=True)
    assert about["found"]["labels"]["type"] == "float64"
