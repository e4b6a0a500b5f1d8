"""What must hold on a GPU: the bits of the host where they are promised, and laws of whole runs. Skipped
where torch sees none; not one of these has run on a GPU yet."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hpcfilter.cli import main
from hpcfilter.data import open_packed, read_batches
from hpcfilter.data.augment import AUGMENTATIONS
from hpcfilter.study.report import read_run
from hpcfilter.train.config import load
from hpcfilter.train.network import Network
from hpcfilter.train.network.copies import Copies
from hpcfilter.train.network.device import device_of, sent

DEVICE = device_of("auto", 0)
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(DEVICE.type == "cpu", reason="torch sees no GPU here")]
IMAGES = np.random.default_rng(0).integers(0, 256, (200, 16, 12, 3), dtype=np.uint8)
INDEX, LABELS = np.arange(200), np.arange(200) % 10
KAKURENBO = {"policy": "kakurenbo", "fraction": 0.3, "tau": 0.2}


def there(name, value):
    _, draw, parameter = AUGMENTATIONS[name]
    drawn = draw(IMAGES, LABELS, INDEX, 3, 1, **{parameter: value})[0]
    return type(drawn)(*(sent(part, DEVICE) for part in drawn)).made().cpu().numpy()


@pytest.mark.parametrize("name", ["shift", "shift_flip"])
def test_pixels_move_to_the_bits_of_the_host(name):
    assert np.array_equal(there(name, 2), AUGMENTATIONS[name][0](IMAGES, LABELS, INDEX, 3, 1, pad=2)[0])


def test_crops_are_those_of_the_host_but_for_a_rounding():
    host = AUGMENTATIONS["resized_crop_flip"][0](IMAGES, LABELS, INDEX, 3, 1, area=0.2)[0]
    off = np.abs(there("resized_crop_flip", 0.2).astype(int) - host)
    assert off.max() <= 1 and (off > 0).mean() < 0.01


class Rows:
    digest, row_bytes = "mine", IMAGES[0].nbytes

    def rows(self, index):
        return IMAGES[index % 200], index


def test_rows_that_are_copied_ahead_are_those_that_were_read():
    """While the device is kept busy, so that a batch used too early, or memory used again, would show."""
    batches = [SimpleNamespace(index=np.arange(start, start + 700)) for start in range(0, 70_000, 700)]
    busy, sums = torch.randn(2048, 2048, device=DEVICE), []
    for _, images, index in read_batches(Rows(), batches, None, 0, 0, Copies(DEVICE)):
        busy = (busy @ busy).clamp_(-1, 1)
        sums.append((images.long().sum(), index.sum()))
    for (images, index), batch in zip(sums, batches, strict=True):
        assert int(images) == int(IMAGES[batch.index % 200].sum()) and int(index) == int(batch.index.sum())


def weights(tmp_path, path, name, *words):
    assert main(["train", str(path), "--run-dir", str(tmp_path / name), *words]) == 0
    run, epochs, end = read_run(tmp_path / name)
    assert run["device"] == str(DEVICE)
    return end["weights"], [(row["selection"], row["accuracy"]) for row in epochs]


def test_rows_and_pixels_wherever_they_are_give_the_same_bits(tmp_path, digits, config):
    tables = {"filter": KAKURENBO, "train": {"epochs": 3, "deterministic": True}}
    found = [weights(tmp_path, config(digits, data={"augment": "shift_flip", **data}, **tables), str(number))
             for number, data in enumerate(({}, {"augment_on": "host"}, {"resident": True}))]
    assert found[0] == found[1] == found[2]


def test_a_run_goes_on_to_the_same_bits(tmp_path, digits, config):
    path = config(digits, train={"epochs": 3, "deterministic": True},
                  schedule={"name": "constant", "warmup_epochs": 0},
                  filter={"policy": "random", "fraction": 0.3})
    whole = weights(tmp_path, path, "whole")
    weights(tmp_path, path, "cut", "--set", "train.epochs=2")
    assert weights(tmp_path, path, "cut", "--resume")[0] == whole[0]


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:TensorFloat32")  # of the compiler, on GPUs that have it
@pytest.mark.parametrize("mode", [True, "reduce-overhead"])
def test_compiled_losses_are_the_same_up_to_rounding(digits, config, mode):
    torch._dynamo.reset()
    network, split = Network(load(config(digits)), open_packed(digits)), open_packed(digits).train
    plain = network.infer(split, np.arange(500), 100)[1]
    network.compile(mode)
    for _ in range(3):  # warm-up, recording, replay
        assert np.allclose(network.infer(split, np.arange(500), 100)[1], plain, atol=1e-3)
