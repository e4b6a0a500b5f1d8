"""The loop on one process: laws 3, 5 and 8, regression and segmentation, what a run leaves behind."""

import json

import numpy as np
import pytest

from hpcfilter.cli import main
from hpcfilter.comm import SerialComm
from hpcfilter.data import open_packed, read_table
from hpcfilter.pack.pack import pack
from hpcfilter.study.report import compare, read_run
from hpcfilter.train.config import load
from hpcfilter.train.exchange.engine import Alone
from hpcfilter.train.network import Network
from hpcfilter.train.updates import Updates

KAKURENBO = {"policy": "kakurenbo", "fraction": 0.3, "tau": 0.2}


def train(config, run_dir, *words):
    assert main(["train", str(config), "--run-dir", str(run_dir), *words]) == 0
    return read_run(run_dir)


def weights(config, run_dir, *words):
    return train(config, run_dir, *words)[2]["weights"]


@pytest.mark.parametrize("order", ["global", "shard"])
def test_fraction_zero_is_the_baseline_bit_for_bit(tmp_path, digits, config, order):
    data = {"order": order, "augment": "shift"}
    baseline = weights(config(digits, data=data), tmp_path / "none")
    for policy in ({"policy": "random", "fraction": 0.0}, {**KAKURENBO, "fraction": 0.0}):
        assert weights(config(digits, data=data, filter=policy), tmp_path / policy["policy"]) == baseline
    assert weights(config(digits, data=data, filter=KAKURENBO), tmp_path / "hidden") != baseline


def test_resume_ends_with_the_same_bits(tmp_path, digits, config):
    tables = {"filter": KAKURENBO, "train": {"epochs": 4}, "data": {"augment": "shift_flip"}}
    _, whole_epochs, whole_end = train(config(digits, **tables), tmp_path / "whole")
    # A run that ended after two epochs of the same schedule: the later generations and rows are gone.
    path = config(digits, **tables, checkpoint={"keep": 9})
    train(path, tmp_path / "cut")
    for epoch in (2, 3):
        generation = tmp_path / "cut" / "checkpoints" / f"epoch-{epoch:05d}"
        generation.rename(generation.with_name(f"gone-{epoch}"))
    _, epochs, end = train(path, tmp_path / "cut", "--resume")
    assert end["weights"] == whole_end["weights"] and end["passes"] == whole_end["passes"]
    for mine, other in zip(epochs, whole_epochs, strict=True):
        assert {k: v for k, v in mine.items() if k != "seconds"} == {k: v for k, v in other.items()
                                                                     if k != "seconds"}
    kinds = [json.loads(line)["kind"]
             for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert [kind for kind in kinds if kind not in ("speed", "scores")] == ["run", "epoch", "epoch", "run",
                                                                           "epoch", "epoch", "end"]
    assert kinds.count("speed") == kinds.count("scores") == len(epochs), "one for each epoch"


def test_a_damaged_generation_is_passed_over(tmp_path, digits, config, capsys):
    path = config(digits, filter=KAKURENBO, train={"epochs": 3})
    whole = weights(path, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "epoch-00002" / "scores.h5"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert weights(path, tmp_path / "run", "--resume") == whole
    assert "epoch-00002/scores.h5: differs from its checksum" in capsys.readouterr().err


def test_a_run_whose_generations_are_all_damaged_does_not_begin_anew_by_itself(tmp_path, digits,
                                                                               config, capsys):
    path = config(digits, train={"epochs": 3}, checkpoint={"keep": 2})
    train(path, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    for generation in folder.iterdir():
        (generation / "model.pt").write_bytes(b"")
    (folder / "epoch-00009.bak").mkdir()  # somebody's copy is no generation
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run"),
                 "--resume"]) == 2, "whether to begin anew is not for us to decide"
    assert "none of 2 checkpoints can be used; move the folder away to begin anew" in capsys.readouterr().err
    assert sorted(entry.name for entry in folder.iterdir()) == ["epoch-00001", "epoch-00002",
                                                                "epoch-00009.bak"]
    folder.rename(folder.with_name("damaged"))
    train(path, tmp_path / "run", "--resume")
    assert sorted(entry.name for entry in folder.iterdir()) == ["epoch-00001", "epoch-00002"]
    assert main(["score", str(tmp_path / "run")]) == 0


def test_a_frozen_part_stays_frozen(tmp_path, digits, config, monkeypatch):
    from torch import nn

    from hpcfilter.train import models

    def frozen(inputs, outputs):
        model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, outputs))
        model[0].eval()
        return model

    monkeypatch.setitem(models.MODELS, "frozen", frozen)
    train(config(digits, model={"name": "frozen", "width": None}), tmp_path / "run")
    import torch

    state = torch.load(tmp_path / "run" / "checkpoints" / "epoch-00001" / "model.pt",
                       weights_only=True)["model"]
    assert state["0.running_mean"].item() == 0 and state["0.running_var"].item() == 1


def test_a_line_that_a_killed_run_did_not_finish_is_dropped(tmp_path, digits, config):
    path = config(digits)
    train(path, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"kind": "epo')
    assert len(read_run(tmp_path / "run")[1]) == 2
    assert len(train(path, tmp_path / "run", "--resume")[1]) == 2


def test_a_row_that_a_killed_run_did_not_write_comes_from_the_checkpoint(tmp_path, digits, config):
    path = config(digits, filter=KAKURENBO)
    _, whole, _ = train(path, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    # killed after the second epoch's checkpoint
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:2]))
    (tmp_path / "run" / "DONE").unlink()
    _, epochs, _ = train(path, tmp_path / "run", "--resume")
    assert [{k: v for k, v in row.items() if k != "seconds"}
            for row in epochs] == [{k: v for k, v in row.items() if k != "seconds"} for row in whole]


def test_same_seed_same_bits_other_seed_other_bits(tmp_path, digits, config):
    path = config(digits)
    first, second = (weights(path, tmp_path / name) for name in "ab")
    assert first == second != weights(path, tmp_path / "c", "--set", "seed=4")


def test_nothing_observed_is_lost(tmp_path, digits, config):
    _, epochs, end = train(config(digits, filter=KAKURENBO, train={"epochs": 3}), tmp_path / "run")
    columns, _, rows = read_table(tmp_path / "run" / "checkpoints" / "epoch-00002" / "scores.h5")
    assert rows == 1438 and columns["seen"].sum() == round((end["passes"] + end["looks"]) * rows)
    assert (columns["seen"] == 3).all(), "every sample is seen once per epoch, in training or in the refresh"
    assert sum(row["hidden"] for row in epochs) == sum(row["refreshed"] for row in epochs) > 0
    assert not np.isnan(columns["importance"]).any() and columns["confidence"].max() <= 1


def test_the_record_says_what_others_build_on(tmp_path, digits, config):
    run, epochs, end = train(config(digits, filter=KAKURENBO), tmp_path / "run")
    assert {"versions", "commit", "config", "machine", "ranks", "data", "started"} <= set(run)
    assert {"epoch", "steps", "kept", "hidden", "moved_back", "threshold", "train_loss", "accuracy", "lr",
            "passes", "imbalance", "seconds", "selection", "batches"} <= set(epochs[0])
    assert set(epochs[0]["seconds"]) == {"total", "train", "select", "rebalance", "score", "evaluate",
                                         "checkpoint"}
    assert {"exit", "accuracy", "passes", "seconds", "weights"} <= set(end)
    assert (tmp_path / "run" / "DONE").exists() and (tmp_path / "run" / "config.toml").exists()
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 2
    text = compare([tmp_path / "run"]).text()
    assert f"{100 * epochs[-1]['accuracy']:.2f} %" in text and "passes saved" in text


def test_it_learns(tmp_path, digits, config):
    _, epochs, _ = train(config(digits, model={"width": 8}, train={"epochs": 8, "global_batch": 64},
                                filter=KAKURENBO), tmp_path / "run")
    assert epochs[-1]["accuracy"] > 0.95 and epochs[-1]["hidden"] > 0


def test_regression_with_a_model_and_a_loss_of_ones_own(tmp_path, regression, config):
    path = config(regression,
                  model={"name": None, "width": None, "factory": "custom:perceptron", "hidden": 24},
                  train={"epochs": 30, "global_batch": 20}, optim={"lr": 0.05},
                  loss={"name": "custom:absolute"}, filter={"policy": "random", "fraction": 0.2})
    _, epochs, end = train(path, tmp_path / "run")
    assert end["accuracy"] is None and end["test_loss"] < 0.5 * epochs[0]["test_loss"]


def test_segmentation(tmp_path, config):
    rng = np.random.default_rng(0)
    masks = rng.random((120, 8, 8)) < 0.5
    images = (masks * 200 + rng.integers(0, 50, masks.shape)).astype(np.uint8)
    np.savez(tmp_path / "s.npz", images=images, labels=masks)
    pack(tmp_path / "s.npz", tmp_path / "p.h5")
    path = config(tmp_path / "p.h5", model={"name": None, "width": None, "factory": "custom:pixels"},
                  data={"augment": "custom:mirrored"}, train={"epochs": 10, "global_batch": 16},
                  optim={"lr_scaling": "none"}, loss={"name": "custom:pixelwise"})
    _, epochs, _ = train(path, tmp_path / "run")
    assert epochs[-1]["test_loss"] < 0.2


@pytest.mark.parametrize("model", [{"name": "mlp", "width": None, "hidden": 32, "depth": 1},
                                   {"name": "resnet18", "width": 4}])
def test_other_models_and_options(tmp_path, digits, config, model):
    path = config(digits, model=model, train={"epochs": 5, "precision": "bfloat16", "channels_last": True},
                  schedule={"name": "step"}, loss={"label_smoothing": 0.1}, optim={"lr": 0.3})
    _, epochs, _ = train(path, tmp_path / "run")
    assert epochs[-1]["accuracy"] > 0.8


def test_score_select_train(tmp_path, digits, config):
    train(config(digits), tmp_path / "run")
    for name in ("loss", "el2n", "margin"):
        assert main(["score", str(tmp_path / "run"), "--set", f"score.name={name}",
                     "-o", str(tmp_path / f"{name}.h5")]) == 0
    tables = {name: read_table(tmp_path / f"{name}.h5") for name in ("loss", "el2n", "margin")}
    importance = {name: columns["importance"] for name, (columns, *_) in tables.items()}
    assert tables["el2n"][1]["score"] == "el2n" and tables["el2n"][1]["epoch"] == 1
    assert 0 <= importance["el2n"].min() and importance["el2n"].max() <= 2**0.5
    correct = tables["margin"][0]["correct"].astype(bool)
    assert np.array_equal(importance["margin"] < 0, correct), "a negative margin is a right answer"
    order = [np.argsort(np.argsort(values)) for values in importance.values()]
    assert np.corrcoef(order)[0].min() > 0.8, "all scores agree on what is hard"

    assert main(["select", str(tmp_path / "el2n.h5"), "--fraction", "0.25",
                 "-o", str(tmp_path / "selection.h5")]) == 0
    columns, about, _ = read_table(tmp_path / "selection.h5")
    hidden = np.argsort(importance["el2n"], kind="stable")[: int(0.25 * 1438)]
    assert (np.array_equal(np.flatnonzero(columns["keep"] == 0), np.sort(hidden))
            and about["threshold"] == importance["el2n"][hidden[-1]])

    path = config(digits, filter={"policy": "static", "selection": str(tmp_path / "selection.h5")})
    _, epochs, end = train(path, tmp_path / "static")
    assert [row["kept"] for row in epochs] == [1079, 1079] and end["passes"] == pytest.approx(2 * 1079 / 1438)


def test_a_score_run_leaves_no_trace(tmp_path, digits, config):
    from hpcfilter.data import open_packed
    from hpcfilter.train.config import load
    from hpcfilter.train.network import Network

    dataset = open_packed(digits)
    network = Network(load(config(digits)), dataset)
    network.model.train()
    network.model[2].eval()  # a part that its owner has frozen
    before, modes = network.digest(), [module.training for module in network.model.modules()]
    first, _ = network.infer(dataset.train, np.arange(300), 64)
    second, _ = network.infer(dataset.train, np.arange(300), 300)
    assert network.digest() == before and [module.training for module in network.model.modules()] == modes
    # D1
    assert np.allclose(first["value"], second["value"], atol=1e-5), "the score does not depend on the batch"


def test_a_table_that_a_model_keeps_from_its_first_look_serves_in_training(tmp_path, digits, config):
    path = config(digits, model={"name": None, "width": None, "factory": "custom:remembers"})
    assert len(train(path, tmp_path / "run")[1]) == 2


def test_what_the_optimiser_does_not_have_gets_no_gradient(tmp_path, digits, config):
    """Nobody would clear it: with each step it would take more of the norm that the gradient may have."""
    norms = {"lr": 0.1, "name": "custom:of_the_last_layer", "clip_norm": 0.5}
    path = config(digits, model={"name": "mlp", "width": None}, optim=norms)
    own = load(path)
    network = Network(own, open_packed(digits))
    updates = Updates(own, network, SerialComm(), Alone(SerialComm()), 120)
    updates.make()
    can, still = updates.untrained
    assert can - still == 2 and still > 0
    moved = {id(part) for group in updates.optimizer.param_groups for part in group["params"]}
    assert all(part.requires_grad == (id(part) in moved) for part in network.model.parameters())
