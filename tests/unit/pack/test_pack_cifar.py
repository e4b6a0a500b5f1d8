"""The batches of CIFAR as their authors give them out."""

import os
import pickle

import numpy as np
import pytest
from packs import packed

from hpcfilter.base.errors import InputError

RNG = np.random.default_rng(0)
CIFAR = RNG.integers(0, 256, (60, 3, 32, 32), np.uint8)
KIND = np.arange(60) % 10


def write_pickles(folder):
    for number in range(6):
        part, name = (slice(10 * number, 10 * number + 10),
                      f"data_batch_{number + 1}" if number < 5 else "test_batch")
        (folder / name).write_bytes(pickle.dumps({b"data": CIFAR[part].reshape(10, -1),
                                                  b"labels": KIND[part].tolist(), b"batch_label": b"x"}))
    (folder / "batches.meta").write_bytes(
        pickle.dumps({b"label_names": [b"class %d" % number for number in range(10)]}))


def write_binaries(folder):
    for number in range(6):
        part, name = (slice(10 * number, 10 * number + 10),
                      f"data_batch_{number + 1}" if number < 5 else "test_batch")
        (folder / f"{name}.bin").write_bytes(np.c_[KIND[part].astype(np.uint8),
                                                   CIFAR[part].reshape(10, -1)].tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(f"class-{number}" for number in range(10)))


@pytest.mark.parametrize("write", [write_pickles, write_binaries])
def test_the_batches_of_cifar10(tmp_path, write):
    source = tmp_path / "cifar"
    source.mkdir()
    write(source)
    data, said = packed(source, tmp_path)[2:]
    assert (np.array_equal(data.test.images, CIFAR[50:].transpose(0, 2, 3, 1))
            and np.array_equal(data.test.labels, KIND[50:]))
    assert (np.array_equal(data.train.images[np.argsort(data.train.origin)], CIFAR[:50].transpose(0, 2, 3, 1))
            and data.layout == "HWC")
    assert data.classes[3] in ("class 3", "class-3") and said == ""
    (source / sorted(os.listdir(source))[2]).unlink()
    assert "missing: data_batch_" in packed(source, tmp_path)[3]


def test_cifar100_has_two_kinds_of_labels(tmp_path):
    source = tmp_path / "cifar"
    source.mkdir()
    for name, part in (("train", slice(50)), ("test", slice(50, 60))):
        batch = {b"data": CIFAR[part].reshape(-1, 3072), b"fine_labels": KIND[part].tolist(),
                 b"coarse_labels": (KIND[part] // 5).tolist()}
        (source / name).write_bytes(pickle.dumps(batch))
    names = {b"fine_label_names": [b"f%d" % number for number in range(10)],
             b"coarse_label_names": [b"c0", b"c1"]}
    (source / "meta").write_bytes(pickle.dumps(names))
    data, said = packed(source, tmp_path)[2:]
    assert (np.array_equal(data.test.labels, KIND[50:]) and data.classes[7] == "f7"
            and "coarse_labels; --labels NAME" in said)
    data = packed(source, tmp_path, labels="coarse_labels")[2]
    assert np.array_equal(data.test.labels, KIND[50:] // 5) and data.classes == ["c0", "c1"]


class Touch:
    def __reduce__(self):
        return os.system, ("touch touched",)


@pytest.mark.parametrize(
    "data, message",
    [(pickle.dumps({b"data": Touch()}), "wants posix.system, which no batch of CIFAR needs"),
     (b"\x80\x04nonsense", "cannot be read as a batch of CIFAR"), (b"", "cannot be read as a batch of CIFAR"),
     (pickle.dumps({b"data": 3}), "expected data and labels")])
def test_a_pickle_is_not_believed(tmp_path, monkeypatch, data, message):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "cifar"
    source.mkdir()
    (source / "data_batch_1").write_bytes(data)
    with pytest.raises(InputError, match=message):
        packed(source, tmp_path)
    assert not (tmp_path / "touched").exists()
