"""The verb `pack`: its table, its warnings, and its ways out."""

import json

import h5py
import numpy as np
import pytest
from PIL import Image

from hpcfilter.cli import main
from hpcfilter.data import open_packed

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 4


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capfd, *words):
    """(exit code, output, error output without the progress)."""
    code = main(["pack", *words])
    said = capfd.readouterr()
    return code, said.out, "\n".join(line for line in said.err.splitlines() if line.startswith("hpcfilter"))


def about(path):
    with h5py.File(path) as file:
        return json.loads(file.attrs["about"])


def test_the_table_says_what_was_found(here, capfd):
    np.savez("s.npz", x_train=X[:30], y_train=np.where(Y[:30] == 3, 0, Y[:30]) * 2, x_val=X[30:],
             y_val=Y[30:] * 0, weights=Y)
    code, said, warned = run(capfd, "s.npz", "-o", "p.h5")
    assert code == 0 and said.splitlines()[0] == "p.h5: 30 training and 10 test rows, 5 classes"
    lines = {line[:11].strip(): line[12:] for line in said.splitlines()[1:]}
    assert (lines["train"] == "30 rows, from s.npz: x_train, y_train"
            and lines["test"] == "10 rows, from s.npz: x_val, y_val")
    assert lines["images"] == "uint8 (8, 8), 0 to 255, 0 % not finite, layout HW"
    assert lines["labels"] == "5 classes, 7 rows ('4') to 25 ('0'); 2 empty"
    assert lines["left out"] == "1 arrays that are neither rows nor labels: weights"
    assert lines["note"] == "2 of 5 classes have no row at all: 1, 3"
    assert warned.splitlines() == ["hpcfilter: warning: left out: 1 arrays that are neither rows nor labels: "
                                   "weights", "hpcfilter: warning: 2 of 5 classes have no row at all: 1, 3"]
    found = about("p.h5")["found"]
    assert found["labels"] == {"classes": 5, "empty": 2, "without_training_rows": 2, "smallest": ["4", 7],
                               "largest": ["0", 25]}
    assert found["images"]["lowest"] == 0 and found["splits"]["test"] == "s.npz: x_val, y_val"


def test_the_split_that_pack_makes_is_said(here, capfd):
    np.savez("s.npz", x=X, y=Y)
    assert "10 rows, from s.npz: x, y: 25 % of each class" in run(capfd, "s.npz", "-o", "p.h5",
                                                                  "--test-fraction", "0.25")[1]
    assert "10 rows, from s.npz: x, y: 25 % at random" in run(capfd, "s.npz", "-o", "p.h5",
                                                              "--replace", "--test-fraction", "0.25",
                                                              "--split", "random")[1]
    code, said, warned = run(capfd, "s.npz", "-o", "p.h5", "--replace", "--regression")
    assert (code == 0 and "20 % at random" in said
            and "labels    int64 (one number), 0 to 3, 0 % not finite" in said and warned == "")


@pytest.mark.parametrize("shape, kind, layout, said", [
    ((8, 9, 3), "float32", "HWC", "are taken for images with channels last (HWC); --layout HW, "
     "HWC or none says otherwise"), ((3, 8, 9), "float32", "none", "go to the model as they are (none)"),
    ((8, 9), "float32", "none", "go to the model as they are"),
    ((8, 9), "uint16", "none", "go to the model as they are"), ((8, 9), "uint8", "HW", ""),
    ((8, 9, 4), "uint8", "HWC", ""),
    ((3, 8, 9), "uint8", "none", ""), ((3, 8, 3), "float32", "none", "go to the model as they are"),
    ((8, 9, 13), "uint8", "none", "--layout HWC"),
    ((7,), "float32", "none", ""), ((8, 9, 1), "float64", "HWC", "channels last"),
])
def test_the_layout_is_guessed_only_where_it_is_certain(here, capfd, shape, kind, layout, said):
    np.savez("s.npz", x=RNG.random((20, *shape)).astype(kind), y=Y[:20])
    _, table, warned = run(capfd, "s.npz", "-o", "p.h5")
    assert f"layout {layout}" in table and said in warned and bool(said) == bool(warned)
    assert open_packed("p.h5").layout == layout.replace("none", "")


def test_honest_data_that_compress_well(here, capfd):
    np.savez_compressed("s.npz", x=RNG.random((100, 2)), y=np.zeros((100, 700, 700), np.uint8))
    code, _, warned = run(capfd, "s.npz", "-o", "p.h5")
    times = int(warned.rsplit("--allow-compression ", 1)[1])
    assert code == 2 and "s.npz: y.npy" in warned and 500 < times < 1100
    assert run(capfd, "s.npz", "-o", "p.h5", "--allow-compression", str(times - 1))[0] == 2
    assert run(capfd, "s.npz", "-o", "p.h5", "--allow-compression", str(times))[0] == 0
    with h5py.File("s.h5", "w") as file:
        file["images"] = RNG.random((4000, 2))
        file.create_dataset("labels", data=np.zeros((4000, 10000), np.uint8), chunks=(100, 10000),
                            compression="gzip")
    code, _, warned = run(capfd, "s.h5", "-o", "p.h5", "--replace")
    assert code == 2 and "s.h5: labels" in warned and "--allow-compression" in warned
    assert run(capfd, "s.h5", "-o", "p.h5",
               "--replace", "--allow-compression", warned.rsplit(maxsplit=1)[1])[0] == 0
    (here / "set" / "a").mkdir(parents=True)
    for number in range(5):
        Image.new("L", (7000, 7000), number).save(here / "set" / "a" / f"{number}.png")
    code, _, warned = run(capfd, "set", "-o", "p.h5", "--replace", "--size", "8x8")
    assert code == 2 and "--allow-compression" in warned
    assert run(capfd, "set", "-o", "p.h5", "--replace", "--size", "8x8",
               "--allow-compression", "5000")[0] == 0


def test_large_numbers_are_said(here, capfd):
    np.savez("s.npz", x=RNG.integers(0, 2**30, (40, 4)), y=Y)
    assert "training is in float32, which has them exactly up to 16777216" in run(capfd, "s.npz",
                                                                                  "-o", "p.h5")[2]


def test_names_are_never_an_obstacle(here, capfd):
    """Whatever a source, its classes and its file are called: the packed file can be opened."""
    strange = ["caf\u00e9", "a\nb", "\\", '"', "\U0001f600", "x" * 300, " ", "\udce9"]
    with h5py.File("s.h5", "w") as file:
        file["images"], file["labels"] = X, Y
        file.attrs["class_names"] = [name.encode("utf-8", "surrogateescape") for name in strange]
    assert run(capfd, "s.h5", "-o", "p.h5")[0] == 0
    assert open_packed("p.h5").classes == [*strange[:-1], "\\xe9"]


@pytest.mark.parametrize("words, message", [
    (["s.npz", "-o", "folder"], "folder"),
    (["s.npz", "-o", "folder/"], "folder"), (["s.npz", "-o", "new/"], "new/"),
    (["s.npz", "-o", "new/p.h5"], "no folder new"), (["s.npz", "-o", "s.npz", "--replace"], "s.npz"),
    (["s.npz", "-o", "link.npz", "--replace"], "s.npz"), (["s.npz", "-o", "hard.npz", "--replace"], "s.npz"),
    (["there/s.npz", "-o", "s.npz", "--replace"], "s.npz"),
    (["s.npz", "other.npz", "-o", "other.npz", "--replace"], "other.npz"),
    (["*.npz", "-o", "other.npz", "--replace"], "other.npz"),
    (["folder", "-o", "folder/x.npy", "--replace"], "x.npy"),
])
def test_an_output_that_would_destroy_something_is_refused_before_any_work(here, capfd, words, message):
    np.savez("s.npz", x=X, y=Y)
    np.savez("other.npz", x=X, y=Y)
    (here / "folder").mkdir()
    np.save("folder/x.npy", X)
    np.save("folder/y.npy", Y)
    (here / "link.npz").symlink_to("s.npz")
    (here / "hard.npz").hardlink_to("s.npz")
    (here / "there").symlink_to(".")
    before = {path.name: path.read_bytes() for path in [*here.glob("*.npz"), *here.glob("folder/*")]}
    code, _, warned = run(capfd, *words)
    assert code == 2 and message in warned and len(warned.splitlines()) == 1
    assert (before == {path.name: path.read_bytes() for path in [*here.glob("*.npz"), *here.glob("folder/*")]}
            and not (here / "new").exists())


@pytest.mark.parametrize("words, message", [
    (["--size", "0x8"], "got '0x8', expected HEIGHTxWIDTH"),
    (["--skip-damaged", "some"], "expected a number from 1 on"),
    (["--one-hot", "--regression"], "not allowed with argument"),
    (["--test-split", "val"], "--test-split: got val, but the source has train"),
])
def test_options_that_make_no_sense_are_refused(here, capfd, words, message):
    np.savez("s.npz", x=X, y=Y)
    code, _, warned = run(capfd, "s.npz", "-o", "p.h5", *words)
    assert code == 2 and message in warned
