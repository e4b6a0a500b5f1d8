"""What `pack` reads: the names of arrays and files, CIFAR's batches, shards, sets of idx files, files
that it has made itself."""

import gzip
import struct

import h5py
import numpy as np
import pytest
from packs import packed

from hpcfilter.base.errors import InputError
from hpcfilter.pack.names import in_order, meaning
from hpcfilter.pack.pack import pack

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 4


def is_whole(source, tmp_path, **options):
    rows, labels, _, said = packed(source, tmp_path, **options)
    return np.array_equal(rows, X) and np.array_equal(labels, Y) and said == ""


@pytest.mark.parametrize("name, split, role", [
    ("x_train", "train", "images"), ("trainX", "train", "images"), ("X_tr", "train", "images"),
    ("Xtrain", "train", "images"), ("train/images", "train", "images"), ("valid_labels", "val", "labels"),
    ("Y_test", "test", "labels"), ("dev.targets", "val", "labels"),
    ("train_data", "train", "images"), ("train_set_y", "train", "labels"),
    ("t10k-labels.idx1-ubyte", "test", "labels"), ("features", "", "images"), ("data", "", "images"),
    ("class_names", "", "labels"), ("weights", "", ""), ("validation/img", "val", "images"),
])
def test_names_are_read_as_people_mean_them(name, split, role):
    found = meaning(name)
    assert (found.split, found.role) == (split, role)


def test_numbered_names_are_in_the_order_of_their_numbers():
    assert in_order(["part10", "part2", "part1b", "part"]) == ["part", "part1b", "part2", "part10"]


@pytest.mark.parametrize("x, y", [("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("{}X", "{}Y"),
                                  ("features_{}", "targets_{}"), ("{}.data", "{}.target")])
@pytest.mark.parametrize("test", ["test", "val", "valid", "validation", "dev"])
def test_splits_of_arrays_under_their_usual_names(tmp_path, x, y, test):
    arrays = {x.format("train"): X[:30], y.format("train"): Y[:30], x.format(test): X[30:],
              y.format(test): Y[30:]}
    np.savez(tmp_path / "s.npz", **arrays)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for name, array in arrays.items():
            file[name.replace(".", "/")] = array
    (tmp_path / "npy").mkdir()
    for name, array in arrays.items():
        np.save(tmp_path / "npy" / f"{name}.npy", array)
    for source in ("s.npz", "s.h5", "npy"):
        data = packed(tmp_path / source, tmp_path)[2]
        assert ((len(data.train), len(data.test)) == (30, 10) and np.array_equal(data.test.images, X[30:])
                and np.array_equal(data.test.labels, Y[30:]))


def test_arrays_of_any_name_are_named_by_the_user(tmp_path):
    np.savez(tmp_path / "s.npz", pix=X, cls=Y, weights=np.ones(40))
    with pytest.raises(InputError, match="found the arrays pix, cls, weights; "
                                         "expected rows and labels.*--images NAME --labels NAME"):
        packed(tmp_path / "s.npz", tmp_path)
    rows, labels, _, said = packed(tmp_path / "s.npz", tmp_path, images="pix", labels="cls")
    assert (np.array_equal(rows, X) and np.array_equal(labels, Y)
            and said == "1 arrays that are neither rows nor labels: weights")
    with pytest.raises(InputError, match="--labels: found no array named clas"):
        packed(tmp_path / "s.npz", tmp_path, images="pix", labels="clas")
    np.savez(tmp_path / "s.npz", x=X, data=X, y=Y)
    with pytest.raises(InputError, match="both 'x' and 'data' may be the images; say which: --images NAME"):
        packed(tmp_path / "s.npz", tmp_path)
    assert np.array_equal(packed(tmp_path / "s.npz", tmp_path, images="x")[0], X)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["train/pix"], file["train/cls"], file["test/pix"], file["test/cls"] = (X[:30], Y[:30],
                                                                                    X[30:], Y[30:])
    assert np.array_equal(packed(tmp_path / "s.h5", tmp_path, images="pix", labels="cls")[2].test.images,
                          X[30:])


def test_arrays_without_names(tmp_path):
    np.savez(tmp_path / "s.npz", X, Y)
    rows, labels, _, said = packed(tmp_path / "s.npz", tmp_path)
    assert (np.array_equal(rows, X) and np.array_equal(labels, Y)
            and "its arrays have no names; the first is taken for the rows" in said)


def test_test_rows_without_labels_are_said(tmp_path):
    np.savez(tmp_path / "s.npz", x_train=X, y_train=Y, x_test=X[:5])
    assert "the rows x_test, which have no labels" in packed(tmp_path / "s.npz", tmp_path)[3]


def test_class_names_in_an_hdf5_file(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["train_set_x"], file["train_set_y"], file["list_classes"] = (X, Y % 2,
                                                                          np.array([b"non-cat", b"cat"]))
    assert packed(tmp_path / "s.h5", tmp_path)[2].classes == ["non-cat", "cat"]


@pytest.mark.parametrize("x, y", [("x", "y"), ("images", "labels"), ("my_images", "my_labels"),
                                  ("data", "target"), ("features", "labels")])
def test_npy_files_beside_each_other(tmp_path, x, y):
    np.save(tmp_path / f"{x}.npy", X)
    np.save(tmp_path / f"{y}.npy", Y)
    assert is_whole(tmp_path / f"{x}.npy", tmp_path)


def test_a_single_npy_file_has_no_labels(tmp_path):
    np.save(tmp_path / "rows.npy", X)
    rows, _, data, said = packed(tmp_path / "rows.npy", tmp_path)
    assert np.array_equal(rows, X) and data.classes == [] and "there are no labels" in said
    np.save(tmp_path / "own.npy", Y)
    assert np.array_equal(packed(tmp_path / "rows.npy", tmp_path, labels="own.npy")[1], Y)
    (tmp_path / "rows.npy").write_bytes((tmp_path / "rows.npy").read_bytes()[:-9])
    with pytest.raises(InputError, match="rows.npy: got 2679 bytes, expected 2688 .* truncated"):
        packed(tmp_path / "rows.npy", tmp_path)


def write_shards(folder, kind, names):
    folder.mkdir()
    for name, x, y in zip(names, np.array_split(X, len(names)), np.array_split(Y, len(names)), strict=True):
        if kind == "npz":
            np.savez(folder / f"{name}.npz", images=x, labels=y)
        elif kind == "h5":
            with h5py.File(folder / f"{name}.h5", "w") as file:
                file.create_dataset("images", data=x, chunks=(3, 8, 8), compression="gzip")
                file["labels"] = y
        else:
            pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.table({"v": x.reshape(len(x), -1).tolist(), "label": y}),
                                        folder / f"{name}.parquet")


@pytest.mark.parametrize("kind", ["npz", "h5", "parquet"])
def test_shards_of_one_set(tmp_path, kind):
    write_shards(tmp_path / "set", kind, [f"part{number}" for number in range(11)])
    by_list = [tmp_path / "set" / f"part{number}.{kind}" for number in range(11)]
    for source in (tmp_path / "set", str(tmp_path / "set" / f"part*.{kind}"), by_list):
        rows, labels, _, said = packed(source, tmp_path)
        assert np.array_equal(rows.reshape(40, 8, 8), X) and np.array_equal(labels, Y) and said == ""


def test_shards_of_splits(tmp_path):
    write_shards(tmp_path / "set", "npz", ["train-0", "train-1", "train-2", "valid-0"])
    data = packed(tmp_path / "set", tmp_path)[2]
    assert np.array_equal(data.test.images, X[30:]) and len(data.train) == 30


def test_shards_that_do_not_fit_are_refused(tmp_path):
    write_shards(tmp_path / "set", "npz", ["a", "b"])
    np.savez(tmp_path / "set" / "c.npz", images=X[:, :4], labels=Y)
    with pytest.raises(InputError, match=r"c.npz: images, labels: got rows of shape \(4, 8\), expected \(8, "
                                         r"8\) as in a.npz"):
        packed(tmp_path / "set", tmp_path)
    with h5py.File(tmp_path / "set" / "d.h5", "w") as file:
        file["images"] = X
    with pytest.raises(InputError, match="holds files of several kinds: 3 .npz, 1 HDF5; say which"):
        packed(tmp_path / "set", tmp_path)
    with pytest.raises(InputError, match="nothing-.*no such file"):
        packed(str(tmp_path / "nothing-*.npz"), tmp_path)


def test_a_file_made_by_pack_among_the_shards_is_refused(tmp_path):
    write_shards(tmp_path / "set", "h5", ["a", "b"])
    pack(tmp_path / "set", tmp_path / "set" / "out.h5")
    with pytest.raises(InputError, match="out.h5: was made by pack, and lies among the files to be packed"):
        packed(tmp_path / "set", tmp_path)


def write_idx(path, array):
    data = (struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            + array.astype(np.uint8).tobytes())
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_emnist(folder, prefix, images, labels):
    for part, rows in (("train", slice(30)), ("test", slice(30, 40))):
        write_idx(folder / f"{prefix}{part}-images-idx3-ubyte.gz", images[rows])
        write_idx(folder / f"{prefix}{part}-labels-idx1-ubyte.gz", labels[rows])


def test_sets_of_idx_files_in_one_folder_are_told_apart(tmp_path):
    source = tmp_path / "emnist"
    source.mkdir()
    write_emnist(source, "emnist-letters-", X, Y + 1)
    data, said = packed(source, tmp_path)[2:]
    assert np.array_equal(data.test.labels, Y[30:] + 1) and "1 of 5 classes have no row at all: 0" in said
    write_emnist(source, "emnist-digits-", 255 - X, Y)
    with pytest.raises(InputError, match="holds 2 sets of idx files: emnist-digits, emnist-letters; "
                                         "give a file of the one that is meant, such as "):
        packed(source, tmp_path)
    data, said = packed(source / "emnist-digits-train-images-idx3-ubyte.gz", tmp_path)[2:]
    assert np.array_equal(data.test.images, 255 - X[30:]) and "4 idx files of other sets" in said
    # unpacked beside its .gz: the same file
    write_idx(source / "emnist-digits-train-images-idx3-ubyte", 255 - X[:30])
    assert np.array_equal(packed(source / "emnist-digits-train-images-idx3-ubyte.gz", tmp_path)[2]
                          .train.images, data.train.images)
    write_idx(source / "emnist-digits-train-images.idx3-ubyte", X)
    with pytest.raises(InputError, match="may both be the images of train"):
        packed(source / "emnist-digits-train-images-idx3-ubyte.gz", tmp_path)


def test_a_packed_file_keeps_its_classes_and_its_layout(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["images"], file["labels"], file.attrs["classes"] = X, Y, ["a", "b", "c", "d"]
    pack(tmp_path / "s.h5", tmp_path / "first.h5", layout="HW")
    data = packed(tmp_path / "first.h5", tmp_path, seed=3)[2]
    assert data.classes == ["a", "b", "c", "d"] and data.layout == "HW" and len(data.test) == 8
    pack(tmp_path / "s.h5", tmp_path / "first.h5", regression=True, replace=True)
    assert packed(tmp_path / "first.h5", tmp_path)[2].classes == []


@pytest.mark.parametrize("name, data, message", [
    ("s.pt", b"x", "is a file of torch; save its arrays with numpy.savez"),
    ("s.pkl", b"x", "is a pickle of Python, which can run programs"),
    ("s.tar.gz", b"x", "is an archive; unpack it first"),
    ("data_batch_1", b"x", "is one batch of CIFAR; give the folder of all"),
    ("s.mat", b"x", "is a file of MATLAB"), ("s.jpg", b"x", "is one image; expected a folder"),
    ("s.h5", b"x", "is no HDF5 file, though it is called so"), ("s.h5", b"", "is empty"),
    ("s.txt", b"x", "not a data set that pack knows"),
])
def test_what_is_no_source_is_told_the_way_out(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=f"{name}: {message}"):
        packed(tmp_path / name, tmp_path)


def test_the_word_digits_beside_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert "the folder or file of that name is ./digits" in packed("digits", tmp_path)[3]
