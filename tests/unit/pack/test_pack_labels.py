"""Labels: words, one-hot rows, whole numbers of any kind, values that cannot be trained on,
and the split by class."""

import h5py
import numpy as np
import pytest

from hpcfilter.base.errors import InputError
from hpcfilter.data import open_packed
from hpcfilter.pack.pack import pack
from hpcfilter.pack.splits import places, taken

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 4
ANIMALS = np.array(["emu", "cat", "fox", "dog"])


@pytest.fixture
def npz(tmp_path):
    """npz(name=array, ...) -> path of an .npz file of images and what is given."""

    def make(**arrays):
        np.savez(tmp_path / "s.npz", **{"images": IMAGES, **arrays})
        return tmp_path / "s.npz"

    return make


def packed(source, tmp_path, **options):
    """(the packed file, its labels in the order of the source, all that is said)."""
    about = pack(source, tmp_path / "p.h5", replace=True, **options)
    data = open_packed(tmp_path / "p.h5")
    labels, origin = (np.concatenate([getattr(split, name) for split in (data.train, data.test)])
                      for name in ("labels", "origin"))
    return (data, labels[np.argsort(origin)],
            " | ".join([*about["found"]["left_out"], *about["found"]["said"]]))


# ---- words

def in_npz(tmp_path, words):
    np.savez(tmp_path / "s.npz", images=IMAGES, labels=words)
    return tmp_path / "s.npz"


def in_bytes(tmp_path, words):
    return in_npz(tmp_path, words.astype("S"))


def in_column(tmp_path, words):
    return in_npz(tmp_path, words[:, None])


def in_hdf5(tmp_path, words):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["images"] = IMAGES
        file.create_dataset("labels", data=words.tolist(), dtype=h5py.string_dtype())
    return tmp_path / "s.h5"


def in_hdf5_of_fixed_length(tmp_path, words):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["images"], file["labels"] = IMAGES, words.astype("S")
    return tmp_path / "s.h5"


@pytest.mark.parametrize("make", [in_npz, in_bytes, in_column, in_hdf5, in_hdf5_of_fixed_length])
def test_words_become_classes_in_alphabetical_order(tmp_path, make):
    data, labels, _ = packed(make(tmp_path, ANIMALS[LABELS]), tmp_path)
    assert (data.classes == ["cat", "dog", "emu", "fox"]
            and [data.classes[label] for label in labels] == ANIMALS[LABELS].tolist())


def test_words_that_are_numbers_stand_in_their_order(tmp_path):
    data, labels, _ = packed(in_npz(tmp_path, np.array([str(label) for label in LABELS + 8])), tmp_path)
    assert data.classes == ["8", "9", "10", "11"] and np.array_equal(labels, LABELS)


def test_words_of_both_splits_are_the_classes(npz, tmp_path):
    source = npz(images=IMAGES[:0], x_train=IMAGES, y_train=ANIMALS[LABELS], x_test=IMAGES[:3],
                 y_test=np.array(["gnu", "cat", "cat"]))
    np.savez(source, x_train=IMAGES, y_train=ANIMALS[LABELS], x_test=IMAGES[:3],
             y_test=np.array(["gnu", "cat", "cat"]))
    data, _, said = packed(source, tmp_path)
    assert (data.classes == ["cat", "dog", "emu", "fox", "gnu"]
            and [data.classes[label] for label in data.test.labels] == ["gnu", "cat", "cat"])
    assert "1 classes have no training row, only test rows: gnu" in said


@pytest.mark.parametrize("words, message", [
    (np.where(LABELS == 0, "", "cat"), "some labels are empty words"),
    (np.array([f"id {number}" for number in range(2500)]), "2500 different words as labels of 2500 rows"),
    (np.array([["a", "b"]] * 40), r"words of shape \(40, 2\), expected one label per row"),
])
def test_words_that_are_no_classes_are_refused(npz, tmp_path, words, message):
    with pytest.raises(InputError, match=message):
        packed(npz(images=np.resize(IMAGES, (len(words), 8, 8)), labels=words), tmp_path)


# ---- numbers

@pytest.mark.parametrize("kind", ["int64", "float32", "bool"])
def test_one_hot_labels_are_asked_about(npz, tmp_path, kind):
    source = npz(labels=np.eye(4)[LABELS].astype(kind))
    with pytest.raises(InputError,
                       match="look one-hot.*--one-hot to take them as 4 classes, or --regression"):
        packed(source, tmp_path)
    data, labels, _ = packed(source, tmp_path, kind="one-hot")
    assert data.classes == ["0", "1", "2", "3"] and np.array_equal(labels, LABELS)
    assert packed(source, tmp_path, regression=True)[0].target.endswith("targets of shape (4,)")


def test_what_is_not_one_hot_stays_numbers(npz, tmp_path):
    several = (RNG.random((40, 4)) < 0.5).astype(np.float32)
    assert np.array_equal(packed(npz(labels=several), tmp_path)[1], several)
    with pytest.raises(InputError, match="--one-hot.*expected rows of one 1 and zeros else"):
        packed(npz(labels=several), tmp_path, kind="one-hot")


def test_whole_numbers_in_floating_point_are_said(npz, tmp_path):
    data, labels, said = packed(npz(labels=LABELS.astype(np.float64)), tmp_path)
    assert (data.classes == [] and labels.dtype == np.float64
            and "4 whole numbers, 0 to 3: taken as numbers" in said and "--classes" in said)
    data, labels, said = packed(npz(labels=LABELS.astype(np.float64)), tmp_path, kind="classes")
    assert len(data.classes) == 4 and np.array_equal(labels, LABELS) and said == ""
    with pytest.raises(InputError, match="--classes: got labels that are no whole numbers, such as 0.5"):
        packed(npz(labels=LABELS + 0.5), tmp_path, kind="classes")


@pytest.mark.parametrize("values, message", [([-1, 1], "label -1 in row 0.*--renumber"),
                                             ([7, 10**15], "labels up to 1000000000000000.*--renumber")])
def test_labels_that_are_no_numbers_from_0_on_may_be_numbered_anew(npz, tmp_path, values, message):
    source = npz(labels=np.array(values)[LABELS % 2])
    with pytest.raises(InputError, match=message):
        packed(source, tmp_path)
    data, labels, _ = packed(source, tmp_path, renumber=True)
    assert data.classes == [str(value) for value in values] and np.array_equal(labels, LABELS % 2)


def test_gaps_and_classes_without_rows_are_said(npz, tmp_path):
    _, labels, said = packed(npz(labels=LABELS * 2 + 1), tmp_path)
    assert np.array_equal(labels, LABELS * 2 + 1) and "4 of 8 classes have no row at all: 0, 2, 4, 6" in said
    _, _, said = packed(npz(labels=LABELS * 0), tmp_path)
    assert "all rows are of one class, 0" in said


def test_labels_that_look_like_measurements_are_said(npz, tmp_path):
    labels = np.r_[np.arange(30), np.arange(10)]
    assert ("30 values in 40 rows and are taken as classes; "
            "give --regression" in packed(npz(labels=labels), tmp_path)[2])


def test_rows_without_labels(tmp_path):
    np.savez(tmp_path / "s.npz", x=IMAGES)
    data, labels, said = packed(tmp_path / "s.npz", tmp_path)
    assert data.classes == [] and not labels.any() and "there are no labels" in said
    np.savez(tmp_path / "s.npz", x=IMAGES, lbls=LABELS)
    with pytest.raises(InputError, match="found the rows x, and no labels for them; there are lbls; "
                                         "say which: --labels NAME"):
        packed(tmp_path / "s.npz", tmp_path)
    assert np.array_equal(packed(tmp_path / "s.npz", tmp_path, labels="lbls")[1], LABELS)


# ---- what cannot be trained on

@pytest.mark.parametrize("array, message", [
    (np.array([IMAGES[0], IMAGES[1][:3]] * 20, object),
     r"images.npy: holds Python objects.*only pickle can store"),
    (IMAGES.astype(np.longdouble), "more than 64 bits.*astype"),
    (IMAGES.astype(np.complex64), "complex numbers; store real and imaginary parts"),
    (np.full((40, 2), "2026-11-28", "datetime64[D]"), "holds dates"),
    (np.zeros(40, "u1,f4"), "records of several fields"),
    (np.full((40, 2), "cat"), "holds words; expected numbers, and words only as labels"),
])
def test_types_that_torch_does_not_know_are_refused(npz, tmp_path, array, message):
    with pytest.raises(InputError, match=message):
        packed(npz(images=array, labels=LABELS), tmp_path)


@pytest.mark.parametrize("split, row", [("train", 7), ("test", 3)])
@pytest.mark.parametrize("array", ["x", "y"])
@pytest.mark.parametrize("value, word", [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite"),
                                         (1e300, "beyond float32")])
def test_values_that_cannot_be_trained_on_are_named(tmp_path, split, row, array, value, word):
    arrays = {f"{name}_{part}": RNG.random((rows, 5) if name == "x" else (rows, 2))
              for part, rows in (("train", 30), ("test", 10)) for name in "xy"}
    arrays[f"{array}_{split}"][row, 1] = value
    np.savez(tmp_path / "s.npz", **arrays)
    what = "images" if array == "x" else "labels"
    with pytest.raises(InputError, match=rf"s.npz: x_{split}, y_{split}: 1 rows of the {what} .*row {row}: "
                                         rf"1 of its . values are {word}"):
        packed(tmp_path / "s.npz", tmp_path)
    data, _, said = packed(tmp_path / "s.npz", tmp_path, skip_damaged=1)
    assert (len(data.train), len(data.test)) == ((29, 10) if split == "train" else (30, 9))
    assert f"1 damaged rows, as --skip-damaged allows: row {row}" in said
    assert (np.isfinite(data.train.images).all() and np.isfinite(data.test.labels).all()
            and row not in getattr(data, split).origin)


# ---- the split by class

@pytest.mark.parametrize("seed", range(5))
def test_every_class_keeps_a_training_row_and_gives_its_share(npz, tmp_path, seed):
    labels = np.zeros(1000, int)
    labels[:60], labels[60:260] = np.arange(60) // 3 + 1, 21
    data, _, said = packed(npz(images=RNG.integers(0, 256, (1000, 4), np.uint8), labels=labels),
                           tmp_path, seed=seed)
    train, test = (np.bincount(split.labels, minlength=22) for split in (data.train, data.test))
    assert train.sum() == 800 and (train > 0).all() and said == ""
    assert np.all(np.abs(test - 0.2 * np.bincount(labels)) < 1), "the share of each class, to the nearest row"


@pytest.mark.parametrize("counts, held, expected", [
    ([100, 50], 30, [20, 10]), ([3, 3, 3], 2, [1, 1, 0]), ([1, 9], 2, [0, 2]), ([1, 1, 8], 2, [0, 0, 2]),
    ([1, 1], 1, [0, 0]), ([2, 2], 3, [1, 1]), ([0, 10], 2, [0, 2]),
])
def test_how_many_rows_each_class_gives(counts, held, expected):
    assert taken(np.array(counts), held).tolist() == expected


def test_the_split_is_a_partition_in_the_order_of_the_shuffle():
    labels = RNG.integers(0, 5, 500)
    dropped = np.array([3, 77, 499])
    for by in (None, labels):
        place = places(500, dropped, 100, by, seed=4)
        train, test = place["train"] >= 0, place["test"] >= 0
        assert (not (train & test).any() and np.flatnonzero(~train & ~test).tolist() == dropped.tolist()
                and test.sum() == 100)
        for one in place.values():
            assert np.array_equal(np.sort(one[one >= 0]), np.arange((one >= 0).sum()))
    whole, again = (places(500, np.zeros(0, int), 100, labels, seed=4)["train"] for _ in range(2))
    assert (np.array_equal(whole, again)
            and not np.array_equal(whole, places(500, np.zeros(0, int), 100, labels, seed=5)["train"]))


def test_classes_of_one_row_cannot_be_split_by_class(npz, tmp_path):
    with pytest.raises(InputError, match="no test row is left; every class has one row only.*--split random"):
        packed(npz(labels=np.arange(40)), tmp_path)
    assert len(packed(npz(labels=np.arange(40)), tmp_path, by_class=False)[0].test) == 8
