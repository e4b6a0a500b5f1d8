"""Folders of images: nothing is left out but what is no image, and that is said."""

import os

import numpy as np
import pytest
from PIL import Image

from hpcfilter.base.errors import InputError
from hpcfilter.data import open_packed
from hpcfilter.pack.pack import pack

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """folder({"a/b": 5, "c.txt": "text"}) -> a folder with that many images in a/b, and the text; no
    image is twice there."""

    def make(contents):
        number = 0
        for place, what in contents.items():
            path = tmp_path / "set" / place
            if isinstance(what, str):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(what)
                continue
            path.mkdir(parents=True, exist_ok=True)
            for _ in range(what):
                Image.fromarray(IMAGES[number]).save(path / f"{number:02}.png")
                number += 1
        return tmp_path / "set"

    return make


def packed(source, tmp_path, **options):
    """(classes, {split: {class: rows}}, all that is said)."""
    about = pack(source, tmp_path / "p.h5", replace=True, **options)
    data = open_packed(tmp_path / "p.h5")
    counts = {split.name: {data.classes[label]: int(count)
                           for label, count in enumerate(np.bincount(split.labels)) if count}
              for split in (data.train, data.test)}
    return data.classes, counts, " | ".join([*about["found"]["left_out"], *about["found"]["said"]])


def total(counts):
    return sum(sum(rows.values()) for rows in counts.values())


def test_images_below_a_class_folder_are_of_the_class(folder, tmp_path):
    classes, counts, said = packed(folder({"a": 4, "a/more": 3, "b/day1": 5, "b/day2/morning": 6}), tmp_path)
    assert classes == ["a", "b"] and total(counts) == 18 and said == ""
    assert counts["train"]["a"] + counts["test"]["a"] == 7


def test_what_is_of_tools_is_passed_over_and_counted(folder, tmp_path):
    source = folder({"a": 5, "b": 5, ".ipynb_checkpoints": 2, "__MACOSX/a": 3, "a/.thumbnails": 2,
                     "a/._00.png": "x", "a/Thumbs.db": "x", ".DS_Store": "x", "empty": 0})
    classes, counts, said = packed(source, tmp_path)
    assert classes == ["a", "b"] and total(counts) == 10
    assert ("6 hidden or system files and folders" in said
            and "1 folders without an image, which are no class: set/empty" in said)


def test_files_that_are_no_images_are_counted_by_kind(folder, tmp_path):
    _, counts, said = packed(folder({"a": 5, "b": 5, "a/notes.txt": "x", "b/rows.npy": "x",
                                     "b/list.txt": "x"}), tmp_path)
    assert (total(counts) == 10
            and "3 files in the class folders of set/ that are no images: 2 .txt, 1 .npy" in said)


def test_images_beside_the_class_folders_are_said(folder, tmp_path):
    _, counts, said = packed(folder({"a": 5, "b": 5, ".": 3}), tmp_path)
    assert (total(counts) == 10 and "3 images beside the class folders of set/, which have no class: "
            "10.png, 11.png, 12.png" in said)


@pytest.mark.parametrize("train", ["train", "Train", "training", "training_set", "train_images"])
@pytest.mark.parametrize("test", ["val", "valid", "Validation", "dev", "test", "testing", "test_set"])
def test_splits_are_found_under_their_usual_names(folder, tmp_path, train, test):
    _, counts, said = packed(folder({f"{train}/a": 4, f"{train}/b": 5, f"{test}/a": 2, f"{test}/b": 1}),
                             tmp_path)
    assert counts == {"train": {"a": 4, "b": 5}, "test": {"a": 2, "b": 1}} and said == ""


def test_of_test_and_validation_rows_one_is_taken_and_the_other_said(folder, tmp_path):
    source = folder({"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 1, "test/a": 3, "test/b": 4})
    _, counts, said = packed(source, tmp_path)
    assert (counts["test"] == {"a": 3, "b": 4} and "the 3 rows of the split val (val/)" in said
            and "--test-split val" in said)
    _, counts, said = packed(source, tmp_path, test_split="val")
    assert counts["test"] == {"a": 2, "b": 1} and "the 7 rows of the split test (test/)" in said


def test_test_images_without_classes_are_said(folder, tmp_path):
    _, counts, said = packed(folder({"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 1, "test": 6}),
                             tmp_path)
    assert counts["test"] == {"a": 2, "b": 1} and "1 folders beside train/" in said and "test/" in said


def test_names_of_splits_with_a_word_in_common(folder, tmp_path):
    source = folder({"seg_train/seg_train/a": 4, "seg_train/seg_train/b": 4, "seg_test/seg_test/a": 2,
                     "seg_test/seg_test/b": 2, "seg_pred": 3})
    classes, counts, said = packed(source, tmp_path)
    assert classes == ["a", "b"] and counts["test"] == {"a": 2, "b": 2} and "seg_pred/" in said


def test_a_class_may_be_called_train(folder, tmp_path):
    classes, counts, _ = packed(folder({"bicycle": 4, "bus": 4, "train": 5}), tmp_path)
    assert classes == ["bicycle", "bus", "train"] and total(counts) == 13
    classes, counts, _ = packed(folder({"tram/day1": 4, "bullet_train/day1": 4}), tmp_path)
    assert "bullet_train" in classes and "tram" in classes


def test_an_archive_unpacked_into_itself(folder, tmp_path):
    classes, counts, said = packed(folder({"set/a": 4, "set/b": 4}), tmp_path)
    assert classes == ["a", "b"] and total(counts) == 8 and "the class folders are those in" in said


def test_an_archive_unpacked_into_a_folder_of_its_own(folder, tmp_path):
    source = folder({"flowers/train/a": 4, "flowers/train/b": 4, "flowers/test/a": 1, "flowers/test/b": 2})
    classes, counts, said = packed(source, tmp_path)
    assert (classes == ["a", "b"] and counts == {"train": {"a": 4, "b": 4}, "test": {"a": 1, "b": 2}}
            and "those in" in said)


def test_links_are_followed_once(folder, tmp_path):
    source = folder({"a": 4, "b": 4})
    (tmp_path / "elsewhere").mkdir()
    for number in range(3):
        Image.fromarray(IMAGES[30 + number]).save(tmp_path / "elsewhere" / f"{number}.png")
    (source / "c").symlink_to(tmp_path / "elsewhere")
    (source / "a" / "loop").symlink_to(source / "a")
    classes, counts, _ = packed(source, tmp_path)
    assert classes == ["a", "b", "c"] and total(counts) == 11


def test_names_that_are_not_utf8(folder, tmp_path):
    source = folder({"a": 4})
    os.rename(source / "a", os.fsencode(source) + b"/caf\xe9")
    (source / "b").mkdir()
    for number in range(4):
        Image.fromarray(IMAGES[30 + number]).save(source / "b" / f"{number}.png")
    classes, counts, _ = packed(source, tmp_path)
    assert classes == ["b", "caf\\xe9"] and total(counts) == 8


def test_classes_that_are_numbers_stand_in_the_order_of_their_names(folder, tmp_path):
    classes, _, said = packed(folder({"0": 3, "1": 3, "2": 3, "10": 3}), tmp_path)
    assert classes == ["0", "1", "10", "2"] and "so folder 10 has label 2" in said


def test_folders_that_are_no_data_set_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="found no folders of images.*there are 1 files .txt"):
        packed(folder({"a/list.txt": "x"}), tmp_path)
    with pytest.raises(InputError, match="class folder 'c' is not among the training classes: a, b"):
        packed(folder({"train/a": 3, "train/b": 3, "test/c": 3}), tmp_path)


def test_rows_to_test_with_alone_are_refused(folder, tmp_path):
    with pytest.raises(InputError,
                       match="found folders for test and val and none for training; expected train/CLASS"):
        packed(folder({"val/a": 2, "test/a": 2}), tmp_path)
