"""What a run says of its own speed: the parts of a step, bytes, joules; rows that are read alone
or stay on the device."""

import json

import numpy as np
import pytest
import torch

from hpcfilter.cli import main
from hpcfilter.data import open_packed
from hpcfilter.data.resident import ResidentRows
from hpcfilter.pack.pack import pack
from hpcfilter.record.clock import Laps
from hpcfilter.record.energy import Joules
from hpcfilter.study.report import read_run
from hpcfilter.train.config import load
from hpcfilter.train.models import build
from hpcfilter.train.network import Network

PARTS = {"input", "forward", "backward", "communication", "optimiser"}


def train(config, run_dir, *words):
    assert main(["train", str(config), "--run-dir", str(run_dir), *words]) == 0
    return read_run(run_dir)


def speed(run_dir):
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == "speed"]


def test_laps_add_up(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 10.0, 14.0])
    monkeypatch.setattr("hpcfilter.record.clock.time.perf_counter", lambda: next(clock))
    waited = []
    lap = Laps("a", "b", wait=lambda: waited.append(1))
    lap("a")
    lap("b")
    lap.start()
    lap("a")
    assert lap.seconds == {"a": 5.0, "b": 2.0} and len(waited) == 3


def test_the_parts_of_a_step_and_what_it_moves(tmp_path, digits, config):
    _, epochs, _ = train(config(digits, record={"breakdown": True}), tmp_path / "run")
    rows = speed(tmp_path / "run")
    assert [row["epoch"] for row in rows] == [0, 1]
    for row, epoch in zip(rows, epochs, strict=True):
        assert set(row["parts"]) == PARTS and all(value >= 0 for value in row["parts"].values())
        assert row["steps"] == epoch["steps"]
        assert 0 < sum(row["parts"].values()) * row["steps"] <= epoch["seconds"]["train"]
        assert row["bytes"]["row"] == 64
    parameters = sum(weight.numel()
                     for weight in build("cnn", None, {"width": 4}, (1, 8, 8), 10).parameters())
    assert rows[0]["bytes"]["gradients"] == 4 * parameters * rows[0]["steps"]


def test_what_a_filter_sends(tmp_path, digits, config, hpcfilter):
    """Two ranks: the threshold's histograms are counted as selection, a few bytes per sample
    as observations."""
    for policy in ("none", "kakurenbo"):
        path = config(digits, filter={"policy": policy, **({"fraction": 0.3} if policy != "none" else {})},
                      train={"epochs": 3})
        assert hpcfilter(2, "train", path, "--run-dir", tmp_path / policy).returncode == 0
    (plain, kakurenbo) = (speed(tmp_path / policy)[-1]["bytes"] for policy in ("none", "kakurenbo"))
    assert kakurenbo["selection"] - plain["selection"] > 2 * 40_000
    assert 0 < kakurenbo["observations"] < plain["observations"] < 1438 * 32


def test_cray_counts_the_node(tmp_path):
    counter = tmp_path / "energy"
    counter.write_text("1000 J 1700000000 us\n")
    meter = Joules(counter, tmp_path)
    counter.write_text("1500 J 1700000001 us\n")
    assert meter.take() == 500.0
    counter.write_text("1700 J 1700000001 us\n")
    assert meter.take() == 200.0


def test_rapl_counts_processors_and_begins_again(tmp_path):
    for number, (now, most) in enumerate([(9_000_000, 10_000_000), (0, 10_000_000)]):
        zone = tmp_path / f"intel-rapl:{number}"
        zone.mkdir()
        (zone / "name").write_text(f"package-{number}\n")
        (zone / "energy_uj").write_text(f"{now}\n")
        (zone / "max_energy_range_uj").write_text(f"{most}\n")
    psys = tmp_path / "intel-rapl:2"
    psys.mkdir()
    (psys / "name").write_text("psys\n")
    meter = Joules(tmp_path / "none", tmp_path)
    assert meter.source == "processors"
    (tmp_path / "intel-rapl:0/energy_uj").write_text("1000000\n")  # past the end, and on
    (tmp_path / "intel-rapl:1/energy_uj").write_text("3000000\n")
    assert meter.take() == 5.0


def test_no_counter_is_no_number(tmp_path):
    assert Joules(tmp_path / "none", tmp_path).take() is None
    (tmp_path / "energy").write_text("nonsense")
    assert Joules(tmp_path / "energy", tmp_path).take() is None


@pytest.mark.parametrize("order", ["global", "shard"])
def test_rows_on_the_device_give_the_same_bits(tmp_path, digits, config, order):
    tables = {"filter": {"policy": "kakurenbo", "fraction": 0.3, "tau": 0.2}, "train": {"epochs": 3}}
    read = train(config(digits, data={"order": order}, **tables), tmp_path / "read")[2]["weights"]
    assert train(config(digits, data={"order": order, "resident": True}, **tables),
                 tmp_path / "resident")[2]["weights"] == read


def test_one_channel_can_lie_pixel_by_pixel(digits, config):
    """Both layouts of one channel are the same memory; what a convolution makes of it is in the
    layout that was asked for."""
    split = open_packed(digits).train
    seen = {}
    for last in (False, True):
        network = Network(load(config(digits, train={"channels_last": last})), open_packed(digits))
        x, _ = network.tensors(*split.rows(np.arange(8)))
        seen[last] = network.model[0](x)
        assert (seen[last].is_contiguous() is not last
                and seen[last].is_contiguous(memory_format=torch.channels_last) is last)
    assert torch.allclose(seen[False], seen[True], atol=1e-5)


def test_rows_that_do_not_fit_are_refused(digits, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    with pytest.raises(Exception, match="GiB fit on cuda:0"):
        ResidentRows(open_packed(digits).train, torch.device("cuda:0"))


# below, at and above the size from which rows are read alone
@pytest.mark.parametrize("height", [10, 128, 130])
def test_large_rows_are_the_same_rows(tmp_path, height):
    images = np.random.default_rng(0).integers(0, 256, (50, height, 128), np.uint8)
    np.savez(tmp_path / "source.npz", x_train=images, y_train=np.arange(50) % 5, x_test=images[:5],
             y_test=np.arange(5))
    pack(tmp_path / "source.npz", tmp_path / "packed.h5")
    split = open_packed(tmp_path / "packed.h5").train
    index = np.array([49, 0, 7, 7, 31])
    assert np.array_equal(split.rows(index)[0], images[np.asarray(split.origin)[index]])
    assert split.rows(index[:0])[0].shape == (0, height, 128)
