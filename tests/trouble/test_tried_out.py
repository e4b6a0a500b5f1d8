"""What is tried out before a run: no trace is left, and the smallest step is known."""

import numpy as np
import pytest
import torch
from own import own, refused

from hpcfilter.base.shard import edges, shard
from hpcfilter.comm.threads import run
from hpcfilter.data import open_packed
from hpcfilter.select.order import global_plan, shard_plan, smallest_part
from hpcfilter.select.policies import Selection
from hpcfilter.train.config import load
from hpcfilter.train.network import Network, try_training


def test_trying_out_leaves_no_trace(digits, config):
    dataset = open_packed(digits)
    network = Network(load(config(digits, **own("Remembers"))), dataset)
    before, drawn = network.digest(), torch.get_rng_state()
    for _ in range(2):
        network.try_out(dataset.train, np.arange(2))
        try_training(network, dataset.train, np.arange(30), 30, "")
    assert (network.digest() == before and network.model.passes == 0
            and torch.equal(torch.get_rng_state(), drawn))
    assert all(parameter.grad is None for parameter in network.model.parameters())
    buffers = dict(network.model.named_buffers())
    network.model(torch.ones(4, 1, 8, 8))
    assert network.digest() != before and buffers["mean"] is not network.model.mean, "it would have been seen"


@pytest.mark.parametrize("tables, message", [
    ({"train": {"batch": 1, "global_batch": None}}, "train.batch: got 1 for 1 rank"),
    ({"train": {"global_batch": 1}}, "train.global_batch: got 1 for 1 rank"),
    ({"train": {"global_batch": 3}, "pass": {"micro": {"samples": 2}}},
     "pass.micro.samples: got 2 for 1 rank"),
    ({"train": {"ramp_batch": 1, "ramp_epochs": 1}}, "train.ramp_batch: got 1 for 1 rank"),
])
def test_batch_norm_with_one_sample(tmp_path, digits, config, capsys, tables, message):
    path = config(digits, **own("batch_norm"), **tables)
    refused(["train", path, "--run-dir", tmp_path / "run"], capsys, message,
            "leaves a rank one sample in a step", "BatchNorm")
    assert not (tmp_path / "run").exists()


def test_batch_norm_with_one_sample_in_the_midst_of_a_run(tmp_path, digits, config, capsys):
    """Where the policy keeps a single one."""
    path = config(digits, train={"epochs": 1}, filter={"policy": "static", "fraction": 0.9995})
    words = ["train", str(path), "--run-dir", str(tmp_path / "run"),
             "--set", "filter={policy=\"random\",fraction=0.9995}"]
    refused(words, capsys, "model: fails on one sample in a step (BatchNorm needs two: give a larger batch)")


@pytest.mark.parametrize("order, samples, size, batch, expected", [
    ("global", 100, 2, 64, [25, 25]), ("global", 1438, 1, 120, [119]), ("global", 5, 2, 4, [1, 1]),
    ("global", 8, 3, 2, [1, 1, 2]), ("shard", 100, 2, 64, [25, 25]), ("shard", 9, 2, 4, [1, 1])])
def test_the_smallest_step(order, samples, size, batch, expected):
    assert [smallest_part(order, samples, rank, size, batch) for rank in range(size)] == expected
    plan = {"global": global_plan, "shard": shard_plan}[order]

    def parts(comm):
        selection = Selection(np.ones(len(shard(samples, comm.rank, size)), bool))
        lengths = [len(batch.index)
                   for batch in plan(selection, edges(samples, size), comm, 0, 0, batch).batches()]
        return min((length for length in lengths if length), default=batch)

    assert run(size, parts) == expected, "as it is planned"
