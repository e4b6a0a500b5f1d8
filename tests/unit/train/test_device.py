"""The device of a rank, and the copies of rows to it, played by the CPU's own streams and by fakes."""

import threading
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hpcfilter.base.errors import InputError
from hpcfilter.base.trees import leaves
from hpcfilter.cli import main
from hpcfilter.data import open_packed, read_batches
from hpcfilter.study.report import read_run
from hpcfilter.train.config import load
from hpcfilter.train.network import Network, copies, device
from hpcfilter.train.network.copies import Copies, copies_of

CPU = torch.device("cpu")


def gpus(monkeypatch, **kinds):
    """Have torch see so many GPUs of each kind. Returns the devices that become the current one."""
    current = []
    for kind in device.GPUS:
        module = getattr(torch, kind)
        monkeypatch.setattr(module, "is_available", lambda kind=kind: kind in kinds)
        monkeypatch.setattr(module, "device_count", lambda kind=kind: kinds.get(kind, 0))
        monkeypatch.setattr(module, "set_device", current.append)
    return current


@pytest.mark.parametrize("wanted, kinds, expected", [
    ("auto", {}, "cpu"), ("cpu", {"cuda": 2}, "cpu"), ("auto", {"cuda": 2}, "cuda:1"),
    ("auto", {"xpu": 4}, "xpu:3"), ("xpu", {"cuda": 1, "xpu": 2}, "xpu:1"), ("cuda", {"cuda": 1}, "cuda:0"),
    ("auto", {"cuda": 1, "xpu": 2}, "cuda:0")])
def test_a_rank_takes_the_gpu_of_its_local_rank(monkeypatch, wanted, kinds, expected):
    current = gpus(monkeypatch, **kinds)
    found = device.device_of(wanted, 3)
    assert str(found) == expected and current == ([] if expected == "cpu" else [found])


@pytest.mark.parametrize("wanted, kinds", [("cuda", {}), ("xpu", {"cuda": 1}), ("cuda", {"xpu": 1})])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch, wanted, kinds):
    gpus(monkeypatch, **kinds)
    with pytest.raises(InputError, match=f"train.device: got {wanted}, but torch .* sees no GPU here"):
        device.device_of(wanted, 0)


def test_on_the_cpu_nothing_is_copied():
    array = np.arange(6.0)
    assert device.sent(array, CPU).data_ptr() == array.ctypes.data and copies_of(CPU) is None


class Rows:
    """Row i is (i, -i)."""

    digest, row_bytes = "mine", 8

    def __len__(self):
        return 200

    def rows(self, index):
        return {"x": np.stack([index, -index], axis=1)}, index % 3


def batches(sizes):
    return [SimpleNamespace(index=np.arange(first, last)) for first, last in pairwise(np.cumsum([0, *sizes]))]


def test_copies_bring_the_same_rows():
    parts = batches([30, 1, 0, 60, 7])
    plain, there = (list(read_batches(Rows(), parts, None, 0, 0, way)) for way in (None, Copies(CPU)))
    assert [batch for batch, *_ in plain] == [batch for batch, *_ in there] == parts
    for (_, *one), (_, *other) in zip(plain, there, strict=True):
        for mine, theirs in zip(leaves(one), leaves(other), strict=True):
            assert np.array_equal(mine, theirs.numpy())


class Played:
    """torch's module for a device, whose streams and events write down what is asked of them."""

    def __init__(self):
        self.log, self.streams = [], threading.local()

    def set_device(self, device):
        self.streams.device = device

    def Stream(self):
        return "copying"

    def current_stream(self):
        return getattr(self.streams, "now", "computing")

    @contextmanager
    def stream(self, stream):
        assert self.streams.device == CPU, "each thread begins on the first GPU"
        self.streams.now = stream
        yield
        self.streams.now = "computing"

    def Event(self):
        number = sum(word[0] == "recorded" for word in self.log)
        return SimpleNamespace(record=lambda: self.log.append(("recorded", number, self.current_stream())),
                               wait=lambda: self.log.append(("waited", number, self.current_stream())))


@pytest.fixture
def played(monkeypatch):
    module = Played()
    monkeypatch.setattr(copies, "module_of", lambda device: module)
    monkeypatch.setattr(copies, "sent",
                        lambda part, device: module.log.append(("sent", threading.current_thread().name,
                                                                module.current_stream()))
                        or torch.as_tensor(part))
    return module


def test_copies_are_begun_ahead_and_waited_for_by_the_computing(played):
    """On a stream of its own, by the thread that reads; each event is waited for by the computing stream
    before its batch is handed over."""
    reading = read_batches(Rows(), batches([100, 100]), None, 0, 0, Copies(CPU))
    next(reading)
    assert [word for word in played.log if word[0] == "waited"] == [("waited", 0, "computing")]
    list(reading)
    assert {word[1:] for word in played.log if word[0] == "sent"} == {("hpcfilter-reader", "copying")}
    assert {word[2] for word in played.log if word[0] == "recorded"} == {"copying"}
    kinds = [word[:2] for word in played.log]
    for number in range(2):
        assert kinds.index(("recorded", number)) < kinds.index(("waited", number))


def test_a_copy_that_fails_is_an_error_of_its_own_batch(played, monkeypatch):
    def fails(part, device):
        part = torch.as_tensor(part)
        if (part == 150).any():
            raise RuntimeError("the copy has failed")
        return part

    monkeypatch.setattr(copies, "sent", fails)
    reading, seen = read_batches(Rows(), batches([100, 20, 20, 20, 20]), None, 0, 0, Copies(CPU)), []
    with pytest.raises(RuntimeError, match="the copy has failed"):
        for batch, *_ in reading:
            seen.append(int(batch.index[0]))
    assert seen[:1] == [0] and 140 not in seen


def test_a_run_with_copies_has_the_same_bits(tmp_path, digits, config, monkeypatch):
    """Training, the look at hidden samples and the evaluation."""
    tables = {"filter": {"policy": "kakurenbo", "fraction": 0.3, "tau": 0.2}, "train": {"epochs": 3},
              "data": {"augment": "shift_flip", "augment_on": "device"}}
    ends = []
    for name in ("plain", "copied"):
        assert main(["train", str(config(digits, **tables)), "--run-dir", str(tmp_path / name)]) == 0
        _, epochs, end = read_run(tmp_path / name)
        ends.append((end["weights"],
                     [(row["selection"], row["accuracy"], row["refreshed"]) for row in epochs]))
        monkeypatch.setattr("hpcfilter.train.network.network.copies_of", Copies)
    assert ends[0] == ends[1] and ends[0][1][-1][2] > 0


def test_a_look_with_copies_is_the_same(digits, config):
    network, split = Network(load(config(digits)), open_packed(digits)), open_packed(digits).train
    plain, index = network.infer(split, np.arange(300), 64), np.arange(300)
    network.copies = Copies(CPU)
    there = network.infer(split, index, 64)
    assert np.array_equal(plain[1], there[1]) and network.infer(split, index[:0], 64)[1].shape == (0,)
    assert all(np.array_equal(plain[0][name], there[0][name]) for name in plain[0])
