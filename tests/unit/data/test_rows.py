"""Rows: a data set read by index, whose inputs and targets may be trees of arrays."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hpcfilter.base.trees import each, leaves, samples, shape
from hpcfilter.comm import SerialComm
from hpcfilter.data import open_packed, read_batches
from hpcfilter.data.resident import ResidentRows
from hpcfilter.train.config import load
from hpcfilter.train.exchange.allreduce import Allreduce
from hpcfilter.train.exchange.engine import Alone
from hpcfilter.train.network import Network
from hpcfilter.train.passes import Plain, make_passes
from hpcfilter.train.passes.micro import Micro
from hpcfilter.train.step import Step

N = 23


class Pairs:
    """A data set of the user's own: two inputs by name, and a pair of targets."""

    digest, row_bytes = "mine", 24

    def __len__(self):
        return N

    def rows(self, index):
        x = {"text": np.stack([index, -index], axis=1), "mask": index % 2 == 0}
        return x, (index.astype(np.float32), [10.0 * index])

    def labels_of(self, owned):
        return None


def cut(sizes, start=0):
    """Batches of these sizes, one after the other."""
    ends = np.cumsum([start, *sizes])
    return [SimpleNamespace(index=np.arange(first, last)) for first, last in pairwise(ends)]


def equal(one, other):
    """Whether two trees have the same form, and equal arrays of equal types."""
    assert shape(one) == shape(other)
    for mine, theirs in zip(leaves(one), leaves(other), strict=True):
        assert mine.dtype == theirs.dtype and np.array_equal(mine, theirs)


def test_trees():
    tree = {"a": np.zeros((4, 2)), "b": (np.zeros(4), [np.zeros((4, 3, 1))])}
    assert [leaf.shape for leaf in leaves(tree)] == [(4, 2), (4,), (4, 3, 1)] and samples(tree) == 4
    assert shape(tree) == {"a": (2,), "b": ((), [(3, 1)])} and shape(np.zeros((4, 2))) == (2,)
    doubled = each(lambda leaf: leaf + 1, tree)
    assert (isinstance(doubled["b"], tuple) and isinstance(doubled["b"][1], list)
            and doubled["b"][1][0].sum() == 12)


@pytest.mark.parametrize("augmented", [False, True])
def test_trees_are_read_ahead_in_batches(augmented):
    """Small batches are read several at once and cut again, each leaf at the same places."""
    def augment(inputs, targets, index, seed, epoch):
        return {**inputs, "text": inputs["text"] + epoch}, targets

    rows, batches = Pairs(), cut([3, 0, 5, 1, 7, 7])
    found = list(read_batches(rows, batches, augment if augmented else None, 0, 2))
    assert [batch for batch, *_ in found] == batches
    for batch, inputs, targets in found:
        expected, wanted = rows.rows(batch.index)
        equal(inputs, augment(expected, wanted, batch.index, 0, 2)[0] if augmented else expected)
        equal(targets, wanted)


class Two(torch.nn.Module):
    """Reads both inputs."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x):
        return self.layer(x["text"].float())[:, 0] * x["mask"]


def gradients(model, passes, parts):
    """The gradients of a step, and what was seen of the samples."""
    seen, exchange = [], Allreduce(SerialComm(), Alone(SerialComm()))

    def forward(x, y):
        output = model(x)
        return output, (output - y[0] + y[1][0]) ** 2

    network = SimpleNamespace(model=model, forward=forward,
                              measure=lambda output, y, losses: {"value": losses})
    model.zero_grad()
    passes(Step(network, exchange, 0.1, 0, seen.append, lambda part: None), parts)
    return ([parameter.grad.clone() for parameter in model.parameters()],
            torch.cat([columns["value"].detach() for columns in seen]), len(seen))


@pytest.mark.parametrize("size", [1, 4, 7, 23, 99])
def test_trees_go_forward_in_parts(size):
    torch.manual_seed(0)
    model, (inputs, targets) = Two().double(), Pairs().rows(np.arange(N))
    model.forward = lambda x: model.layer(x["text"].double())[:, 0] * x["mask"]
    part = (each(torch.from_numpy, inputs), each(torch.from_numpy, targets),
            torch.full((N,), 1 / N, dtype=torch.float64))
    whole, losses, _ = gradients(model, Plain(), [part])
    pieces, seen, count = gradients(model, Micro(Plain(), model, None, {}, samples=size), [part])
    assert count == -(-N // size) and torch.equal(seen, losses), "each sample once, in its order"
    for one, other in zip(whole, pieces, strict=True):
        assert torch.allclose(one, other, rtol=1e-12)


def test_a_network_takes_trees_as_they_are(digits, config):
    """Only an array alone is laid out and normalised."""
    network = Network(load(config(digits)), open_packed(digits))
    x, y = network.tensors({"text": np.arange(6).reshape(3, 2), "mask": np.ones(3, bool)},
                           np.array([2, 0, 1], np.uint8))
    assert (x["text"].tolist() == [[0, 1], [2, 3], [4, 5]] and x["mask"].dtype == torch.bool
            and y.dtype == torch.int64)
    network.model = lambda x: torch.nn.functional.one_hot(x["text"].sum(1) % 10, 10).float()
    output, losses = network.forward(x, y)
    assert output.shape == (3, 10) and losses.shape == (3,)


def test_a_pass_wraps_a_pass_whatever_the_order_of_the_tables():
    model = torch.nn.Linear(2, 1)
    for tables in ({"micro": {"samples": 3}, "extrapolate": {}},
                   {"extrapolate": {}, "micro": {"samples": 3}}):
        made = make_passes(tables, model, Allreduce(SerialComm(), Alone(SerialComm())), {})
        assert [type(one).__name__
                for one in (made, made.inner, made.inner.inner)] == ["Micro", "Extrapolate", "Plain"]
        made.release()
        assert not dict(model.named_buffers())


def test_packed_and_resident_rows_keep_the_protocol(digits):
    split = open_packed(digits).train
    resident = ResidentRows(split, torch.device("cpu"))
    assert (len(split) == len(resident) == 1438 and split.digest == resident.digest
            and split.row_bytes == resident.row_bytes == 64)
    index = np.array([5, 3, 900])
    for mine, theirs in zip(split.rows(index), resident.rows(index), strict=True):
        assert np.array_equal(mine, theirs.numpy())
    assert np.array_equal(split.labels_of(range(7)), resident.labels_of(range(7)))
