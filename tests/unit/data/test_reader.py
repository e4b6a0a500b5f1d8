"""Reading ahead, and augmentation as a function of (seed, epoch, index)."""

import threading

import numpy as np
import pytest

from hpcfilter.data.augment import shift, shift_flip
from hpcfilter.data.reader import prefetch

RNG = np.random.default_rng(0)
GREY = RNG.integers(1, 256, (30, 8, 6), dtype=np.uint8)
COLOUR = RNG.integers(1, 256, (30, 8, 6, 3), dtype=np.uint8)
INDEX = np.arange(1000, 1030)
LABELS = np.zeros(30)


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "hpcfilter-reader"]


def test_prefetch_keeps_the_order_and_ends():
    assert list(prefetch(range(100))) == list(range(100))
    assert list(prefetch([])) == [] and not readers()


def test_an_exception_of_the_reader_is_raised_by_the_consumer():
    def broken():
        yield 1
        raise OSError("disk gone")

    ahead = prefetch(broken())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(ahead)
    assert not readers()


def test_leaving_early_ends_the_thread():
    ahead = prefetch(iter(range(10**9)))
    assert next(ahead) == 0 and len(readers()) == 1
    ahead.close()
    assert not readers()


@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
def test_shift_moves_by_whole_pixels(images):
    moved, labels = shift(images, LABELS, INDEX, 0, 1, pad=2)
    assert moved.shape == images.shape and moved.dtype == np.uint8 and labels is LABELS
    offsets = set()
    for before, after in zip(images, moved, strict=True):
        padded = np.pad(before, [(2, 2), (2, 2)] + [(0, 0)] * (before.ndim - 2))
        found = [(d, r) for d in range(5)
                 for r in range(5) if np.array_equal(padded[d : d + 8, r : r + 6], after)]
        assert found
        offsets.update(found)
    assert len(offsets) > 10, "the samples move differently"
    assert np.array_equal(shift(images, LABELS, INDEX, 0, 1, pad=0)[0], images)


@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
def test_augmentation_depends_on_seed_epoch_and_index_alone(images):
    whole = shift_flip(images, LABELS, INDEX, 3, 4, pad=1)[0]
    part = np.array([7, 2, 29])
    assert np.array_equal(shift_flip(images[part], LABELS[part], INDEX[part], 3, 4, pad=1)[0], whole[part])
    assert not np.array_equal(shift_flip(images, LABELS, INDEX, 3, 5, pad=1)[0], whole)
    assert not np.array_equal(shift_flip(images, LABELS, INDEX, 4, 4, pad=1)[0], whole)


def test_about_half_are_mirrored():
    mirrored = shift_flip(GREY, LABELS, INDEX, 0, 0, pad=0)[0]
    flips = [np.array_equal(after, before[:, ::-1]) for before, after in zip(GREY, mirrored, strict=True)]
    assert 5 < sum(flips) < 25
    assert all(flip or np.array_equal(after, before)
               for flip, before, after in zip(flips, GREY, mirrored, strict=True))
