"""Pixels that are moved where the network is: what is drawn is the same, and so are the bits."""

import numpy as np
import pytest
import torch

from hpcfilter.base.errors import InputError
from hpcfilter.cli import main
from hpcfilter.data import augmentation, moved_late, open_packed
from hpcfilter.data.augment import AUGMENTATIONS, resized_crop
from hpcfilter.data.drawn import AREA, boxes, draw_crop
from hpcfilter.data.pixels import cropped, on_host
from hpcfilter.data.schema import Data
from hpcfilter.study.report import read_run

RNG = np.random.default_rng(0)
GREY = RNG.integers(1, 250, (40, 8, 6))
COLOUR = RNG.integers(1, 250, (40, 8, 6, 3))
INDEX, LABELS = np.arange(1000, 1040), np.zeros(40)
CROPS = "resized_crop", "resized_crop_flip"


def late(name, images, value, index=INDEX, epoch=1):
    """The images of an augmentation that draws first."""
    _, draw, parameter = AUGMENTATIONS[name]
    drawn, labels = draw(images, LABELS[: len(images)], index, 3, epoch, **{parameter: value})
    assert labels is not None and drawn.images is images, "nothing is moved before it is there"
    return on_host(drawn)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int64", "float32", "float64"])
@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("name, value", [("shift", 0), ("shift", 2), ("shift_flip", 1), ("shift_flip", 7)])
def test_the_bits_are_those_of_the_host(name, value, images, kind):
    images = images.astype(kind)
    host = AUGMENTATIONS[name][0](images, LABELS, INDEX, 3, 1, pad=value)[0]
    made = late(name, images, value)
    assert made.dtype == host.dtype == images.dtype and np.array_equal(made, host)
    assert value == 0 or not np.array_equal(made, images)


@pytest.mark.parametrize("name", CROPS)
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float64"])
def test_a_crop_is_one_function_on_host_and_device(name, kind):
    images = COLOUR.astype(kind)
    at_once = AUGMENTATIONS[name][0](images, LABELS, INDEX, 3, 1, area=0.3)[0]
    assert at_once.dtype == images.dtype and at_once.shape == images.shape
    assert np.array_equal(late(name, images, 0.3), at_once) and not np.array_equal(at_once, images)


@pytest.mark.parametrize("name, value", [("shift_flip", 2), *((name, 0.2) for name in CROPS)])
@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
def test_it_depends_on_seed_epoch_and_index_alone(name, value, images):
    images = images.astype(np.uint8)
    whole, part = late(name, images, value), np.array([7, 2, 29])
    assert np.array_equal(late(name, images[part], value, INDEX[part]), whole[part])
    assert not np.array_equal(late(name, images, value, epoch=2), whole)


def test_boxes_are_drawn_by_area_and_form():
    """Area uniform in [a, 1] but for boxes that do not fit, width over height from 3/4 to 4/3, inside."""
    box = boxes(np.arange(20_000), 0, 0, 32, 32, 0.25).astype(np.float64)
    left, top, wide, high = box.T
    share, form = wide * high / 32**2, wide / high
    assert share.min() > 0.2499 and share.max() < 1.0001 and 0.55 < share.mean() < 0.625
    assert form.min() > 0.7499 and form.max() < 1.3334 and abs(np.median(form) - 1) < 0.02
    assert min(left.min(), top.min()) >= 0 and max((left + wide).max(), (top + high).max()) < 32.001
    assert (share < 0.35).mean() == pytest.approx(0.1 / 0.75, abs=0.03), "small ones are not rare"
    assert boxes(np.arange(2000), 0, 0, 32, 32)[:, 2:].prod(axis=1).min() < (AREA + 0.01) * 32**2


@pytest.mark.parametrize("height, width", [(4, 100), (100, 4)])
def test_a_long_image_gives_the_largest_box_of_an_allowed_form(height, width):
    """None of area 1 fits into it."""
    wide, high = boxes(np.arange(50), 0, 0, height, width, 1.0)[:, 2:].T
    assert np.allclose(np.minimum(wide, high), 4) and np.allclose(np.maximum(wide, high), 4 / 0.75)


def crop(image, box, mirrored=False):
    image = torch.as_tensor(image)[None]
    return cropped(image, torch.tensor([box], dtype=torch.float32), torch.tensor([mirrored]))[0]


def test_the_whole_image_is_itself():
    image = COLOUR[0].astype(np.uint8)
    assert np.array_equal(crop(image, [0, 0, 6, 8]), image)
    assert np.array_equal(crop(image, [0, 0, 6, 8], mirrored=True), image[:, ::-1])


def test_a_box_is_stretched_bilinearly():
    """Of an image that rises linearly it gives one that does, between the middles of its pixels."""
    rows, columns = np.mgrid[0:16, 0:16].astype(np.float32)
    made = crop(3 * rows + columns, [4, 2, 8, 6]).numpy()
    down, right = (np.arange(16) + 0.5) * 6 / 16 + 2 - 0.5, (np.arange(16) + 0.5) * 8 / 16 + 4 - 0.5
    assert np.allclose(made, 3 * down[:, None] + right[None, :], atol=1e-4)
    whole = crop((3 * rows + columns).astype(np.uint8), [4, 2, 8, 6]).numpy()
    assert whole.dtype == np.uint8 and np.abs(whole - made).max() <= 0.5001, "rounded, not cut off"


def test_about_half_of_the_crops_are_mirrored():
    plain = resized_crop(COLOUR.astype(float), LABELS, INDEX, 0, 0)[0]
    flipped = resized_crop(COLOUR.astype(float), LABELS, INDEX, 0, 0, flip=True)[0]
    turned = [not np.allclose(one, other) for one, other in zip(plain, flipped, strict=True)]
    assert 10 < sum(turned) < 30 and turned == draw_crop(COLOUR, LABELS, INDEX, 0, 0, area=AREA,
                                                         flip=True)[0].mirrored.tolist()


@pytest.mark.parametrize("table, gpu, expected", [
    ({"augment": "shift"}, False, False), ({"augment": "shift"}, True, True), ({}, True, False),
    ({"augment": "shift", "augment_on": "host"}, True, False), ({"augment": "mine:own"}, True, False),
    ({"augment": "shift", "augment_on": "device"}, False, True),
    ({"augment": "shift", "resident": True}, False, True)])
def test_where_pixels_are_moved(table, gpu, expected):
    assert moved_late(Data(path="x", **table), gpu) is expected


def weights(tmp_path, path, name):
    assert main(["train", str(path), "--run-dir", str(tmp_path / name)]) == 0
    run, _, end = read_run(tmp_path / name)
    return run["augment_on"], end["weights"]


def test_a_run_is_the_same_wherever_pixels_are_moved(tmp_path, digits, config, capsys):
    found = {}
    ways = {"host": {}, "device": {"augment_on": "device"}, "resident": {"resident": True}}
    for name, data in ways.items():
        path = config(digits, data={"augment": "shift_flip", **data})
        where, found[name] = weights(tmp_path, path, name)
        assert where == ("host" if name == "host" else "device")
        assert ("data.augment: shift_flip, drawn on the host, moves the pixels on cpu"
                in capsys.readouterr().out) == (name != "host")
    assert found["host"] == found["device"] == found["resident"]


def test_a_run_with_crops_goes_on_to_the_same_bits(tmp_path, digits, config):
    path = config(digits, data={"augment": "resized_crop_flip", "crop": 0.5})
    on_the_host, whole = weights(tmp_path, path, "whole")
    late_path = config(digits, data={"augment": "resized_crop_flip", "crop": 0.5, "augment_on": "device"})
    assert on_the_host == "host" and weights(tmp_path, late_path, "late") == ("device", whole)
    words = ["train", str(path), "--run-dir", str(tmp_path / "cut")]
    assert main([*words, "--set", "checkpoint.every=1", "--set", "train.epochs=1", "--set",
                 'schedule.name="constant"']) == 0
    assert main([*words, "--resume", "--set", 'schedule.name="constant"']) == 0
    assert main(["train", str(path), "--run-dir", str(tmp_path / "one"), "--set",
                 'schedule.name="constant"']) == 0
    assert read_run(tmp_path / "cut")[2]["weights"] == read_run(tmp_path / "one")[2]["weights"]


@pytest.mark.parametrize("data, message", [
    ({"resident": True, "augment": "mine:own"}, "augmented there, by one of ours or none"),
    ({"resident": True, "augment": "shift", "augment_on": "host"}, 'expected augment_on = "auto"'),
    ({"augment": "mine:own", "augment_on": "device"}, "is of your own and takes arrays on the host"),
    ({"augment": "shift", "crop": 0.5}, 'data.crop: got 0.5, which would be ignored: it is of augment = '
                                        '"resized_crop" or "resized_crop_flip", got "shift"'),
    ({"augment": "resized_crop", "shift": 1}, "data.shift: got 1, which would be ignored"),
    ({"augment": "resized_crop", "crop": 0.0}, "data.crop")])
def test_what_does_not_go_together_is_refused(tmp_path, digits, config, data, message, capsys):
    assert main(["train", str(config(digits, data=data)), "--run-dir", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_crops_are_for_images(regression):
    with pytest.raises(InputError, match="'resized_crop' is for images with class labels"):
        augmentation(Data(path=regression, augment="resized_crop"), open_packed(regression))
