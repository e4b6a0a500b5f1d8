"""[model] start: a run that begins with the weights of another one."""

import json

import numpy as np
import pytest
import torch
from commands import rows
from test_phases import MLP, base, refused, train, weights  # noqa: F401 base is a fixture

from hpcfilter.pack.pack import pack
from hpcfilter.study.report import read_run

STILL = {"lr": 1e-12, "weight_decay": 0.0}  # at this rate the weights stay what they were


def stamp(folder, epoch):
    return json.loads((folder / "checkpoints" / f"epoch-{epoch:05d}" / "stamp.json").read_text())


def test_it_begins_with_the_weights_of_the_other(digits, config, base, tmp_path, capsys):  # noqa: F811
    path = config(digits, model={**MLP, "start": str(base)}, optim=STILL, train={"epochs": 1},
                  checkpoint={"keep": 9})
    train(path, tmp_path / "run")
    out = capsys.readouterr().out
    assert f"weights of {base}/checkpoints/epoch-00000" in out and "made anew" not in out
    theirs, mine = weights(base, 0), weights(tmp_path / "run", 0)
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-9) for name in mine)
    digest = read_run(base)[2]["weights"]
    assert rows(tmp_path / "run", "run")[0]["start"] == digest == stamp(tmp_path / "run", 0)["start"], (
        "in the record and in the stamp")


def test_a_run_without_it_says_nothing_of_it(base):  # noqa: F811
    assert "start" not in rows(base, "run")[0] and stamp(base, 0)["start"] == ""


def test_a_head_of_another_width_is_made_anew(config, base, tmp_path, capsys):  # noqa: F811
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "s.npz", x=rng.integers(0, 256, (60, 8, 8), np.uint8), y=np.arange(60) % 3)
    pack(tmp_path / "s.npz", tmp_path / "three.h5")
    path = config(tmp_path / "three.h5", model={**MLP, "start": str(base)}, optim=STILL,
                  train={"epochs": 1, "global_batch": 12})
    train(path, tmp_path / "run")
    assert "made anew, since of another shape: 3.weight, 3.bias" in capsys.readouterr().out
    theirs, mine = weights(base, 0), weights(tmp_path / "run", 0)
    assert (torch.allclose(mine["1.weight"], theirs["1.weight"], atol=1e-9)
            and mine["3.weight"].shape == (3, 8))
    assert rows(tmp_path / "run", "run")[0]["start"]


def test_resuming_does_not_begin_with_it_again(digits, config, base, tmp_path):  # noqa: F811
    path = config(digits, model={**MLP, "start": str(base)}, train={"epochs": 2}, checkpoint={"keep": 9})
    train(path, tmp_path / "run", "--set", "train.epochs=1")
    begun = rows(tmp_path / "run", "run")[0]["start"]
    whole, again = train(path, tmp_path / "whole"), train(path, tmp_path / "run",
                                                          "--resume", "--set", "schedule.name=cosine")
    assert (rows(tmp_path / "run", "run")[-1]["start"] == begun
            and again[1][1]["train_loss"] < 1.2 * whole[1][1]["train_loss"])
    assert stamp(tmp_path / "run", 1)["start"] == begun


@pytest.mark.parametrize("model, message", [
    ({"name": "cnn", "width": 4}, "has another network: 0.weight, 1.bias"),
    ({"name": "mlp", "width": None, "hidden": 8, "depth": 2},
     "has another network: 5.bias, 5.weight are in one alone"),
])
def test_another_network_is_refused(digits, config, base, tmp_path, capsys, model, message):  # noqa: F811
    path = config(digits, model={**model, "start": str(base)}, train={"epochs": 1})
    refused(path, tmp_path / "run", capsys, f"{path}, line ",
            f"model.start: {base}/checkpoints/epoch-00000: {message}")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_folder_without_weights_is_refused(digits, config, tmp_path, capsys):
    path = config(digits, model={**MLP, "start": str(tmp_path / "nowhere")}, train={"epochs": 1})
    refused(path, tmp_path / "run", capsys, f"{path}, line ", f"model.start: {tmp_path / 'nowhere'}: "
            "no checkpoints there of a finished epoch; expected a run folder")
