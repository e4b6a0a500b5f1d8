"""What large batches ask for, on real ranks: optimisers, clipping, reductions,
extrapolation, ramp, noise scale."""

import json
import shutil

import numpy as np
import pytest
import torch
from commands import ok, rows
from conftest import HELPERS

from hpcfilter.cli import main
from hpcfilter.study.report import read_run

WAYS = {
    "lars": {"optim": {"name": "lars", "trust": 0.05, "momentum": 0.5, "lr": 0.5}},
    "lamb": {"optim": {"name": "lamb", "lr": 0.01}},
    "adam": {"optim": {"name": "adam", "lr": 0.01, "weight_decay": 0.01}},
    "clip": {"optim": {"clip_norm": 0.05}},
    "ramp": {"train": {"ramp_batch": 30, "ramp_epochs": 2, "epochs": 3}, "schedule": {"name": "polynomial"},
             "optim": {"lr_scaling": "sqrt"}},
    "average": {"exchange": {"average": True}},
    "fresh": {"pass.extrapolate": {"direction": "fresh", "distance": 0.0}},
    "parts": {"pass.micro": {"samples": 7}, "optim": {"clip_norm": 1.0}},
    "past": {"pass.extrapolate": {"direction": "past", "distance": 0.0}, "pass.micro": {"samples": 50},
             "exchange": {"compression": "fp16"}},
}
NOISE = {"noise_scale": True}


@pytest.mark.parametrize("extrapolate", ["none", "past", "fresh", "noise"])
def test_a_batch_in_parts_is_the_whole_batch(tmp_path, digits, config, extrapolate):
    """Where nothing is normalised over the batch."""
    losses = []
    for number, micro in enumerate((None, 50)):
        passes = {"pass.micro": {"samples": micro}} if micro else {}
        if extrapolate != "none":
            passes["pass.extrapolate"] = {"direction": extrapolate, "distance": 0.5}
        path = config(digits, model={"name": "mlp", "width": None}, **passes)
        assert main(["train", str(path), "--run-dir", str(tmp_path / str(number))]) == 0
        losses.append([row["train_loss"] for row in read_run(tmp_path / str(number))[1]])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("name", WAYS)
def test_two_ranks_train_as_one(tmp_path, digits, config, hpcfilter, name):
    """Horovod makes a new optimiser of the one it is given: its settings must get across.
    Clipping must see the sum."""
    path = config(digits, model={"name": "mlp", "width": None}, **WAYS[name])
    losses = {}
    for ranks in (1, 2):
        ok(hpcfilter(ranks, "train", path, "--run-dir", tmp_path / str(ranks)))
        losses[ranks] = [row["train_loss"] for row in read_run(tmp_path / str(ranks))[1]]
    assert losses[2] == pytest.approx(losses[1], rel=1e-3 if name == "past" else 1e-4)


def test_extrapolation_of_no_length_is_sgd_bit_for_bit(tmp_path, digits, config, hpcfilter):
    ends = []
    for number, passes in enumerate(({}, *({"pass.extrapolate": {"direction": kind, "distance": 0.0}}
                                           for kind in ("past", "noise")))):
        ok(hpcfilter(2, "train", config(digits, **passes), "--run-dir", tmp_path / str(number)))
        ends.append(read_run(tmp_path / str(number))[2]["weights"])
    assert ends[1] == ends[2] == ends[0]


@pytest.mark.parametrize("tables", [{"pass.extrapolate": {"direction": "past", "distance": 2.0}},
                                    {"exchange": {"kind": "adasum"}},
                                    {"optim": {"name": "lamb", "lr": 0.01}}], ids=["past", "adasum", "lamb"])
def test_inside_an_epoch_resumes_with_the_same_bits(tmp_path, digits, config, hpcfilter, tables):
    """What a step remembers is each rank's own gradient, or the optimiser's state: a
    checkpoint brings both back."""
    ok(hpcfilter(2, "train", config(digits, **tables), "--run-dir", tmp_path / "whole"))
    path = config(digits, **tables, checkpoint={"seconds": 1e-6})
    cut = hpcfilter(2, "train", path, "--run-dir", tmp_path / "cut",
                    HPCFILTER_FAULT="rank=0,point=after_step,n=17,kind=sigkill")
    assert cut.returncode != 0
    ok(hpcfilter(2, "train", path, "--run-dir", tmp_path / "cut", "--resume"))
    assert rows(tmp_path / "cut", "run")[-1]["first_step"] > 0, "inside an epoch"
    assert read_run(tmp_path / "cut")[2]["weights"] == read_run(tmp_path / "whole")[2]["weights"]


@pytest.mark.parametrize("kind", ["past", "fresh"])
def test_each_rank_goes_its_own_way_off(program, kind):
    """w' of rank k is w - e d_k, with the mean gradient of its own samples; w takes the mean of
    the gradients c_k w'_k."""
    found = json.loads(ok(program(2, "extrapolated", kind)).stdout)
    w, past, expected = 1.0, np.zeros(2), []
    curvature = np.array([1.0, 2.0])
    for _ in range(4):
        off = w - 0.5 * 0.1 * (past if kind == "past" else curvature * w)
        past = curvature * off
        w -= 0.1 * past.mean()
        expected.append(w)
    assert found == pytest.approx(expected, rel=1e-5)


def test_adasum_averages_what_agrees_and_adds_what_does_not(program):
    found = json.loads(ok(program(2, "reductions", "adasum", "none")).stdout)
    assert found["orthogonal"] == pytest.approx([3, 4]) and found["parallel"] == pytest.approx([1, 2])
    assert found["small"] == pytest.approx([1.5e-3, 0.15], rel=1e-3)  # g and 2 g: g (1 - 1) + 2 g (1 - 1/4)


def test_fp16_rounds_on_the_way(program):
    found = json.loads(ok(program(2, "reductions", "allreduce", "fp16")).stdout)["small"]
    expected = (np.float16([1e-3, 0.1]) + np.float16([2e-3, 0.2])) / 2  # float16 goes as means
    assert (found == pytest.approx(expected.astype(float), rel=1e-3)
            and found != pytest.approx([1.5e-3, 0.15], rel=1e-6))
    whole = json.loads(ok(program(2, "reductions", "allreduce", "none")).stdout)["small"]
    assert whole == pytest.approx([3e-3, 0.3], rel=1e-6)


def test_the_noise_scale_stands_in_the_record(tmp_path, digits, config, hpcfilter):
    ok(hpcfilter(2, "train", config(digits, record={"noise_scale": True}), "--run-dir", tmp_path / "noise"))
    ok(hpcfilter(2, "train", config(digits), "--run-dir", tmp_path / "plain"))
    noise = rows(tmp_path / "noise", "noise")
    assert ([row["epoch"] for row in noise] == [0, 1] and noise[0]["batch"] == 1438 / 12
            and noise[1]["variance"] > 0)
    assert read_run(tmp_path / "noise")[2]["weights"] == read_run(tmp_path / "plain")[2]["weights"], (
        "watching changes nothing")


@pytest.mark.parametrize("tables, message", [
    ({"train": {"ramp_batch": 64}}, "ramp_batch and ramp_epochs are given together"),
    ({"train": {"ramp_batch": 400, "ramp_epochs": 2}},
     "train.ramp_batch: got 400, more than the global batch of 120"),
    ({"record": NOISE}, "record.noise_scale: is measured between ranks, and needs two or more"),
    ({"exchange": {"kind": "adasum"}, "record": NOISE}, "needs the sum of the gradients"),
    ({"pass.extrapolate": {}, "record": NOISE}, "needs the gradients at the weights"),
    ({"pass.micro": {"samples": 8}, "record": NOISE}, "needs the gradient of a rank's samples at once"),
    ({"optim": {"name": "adagard"}}, "optim.name: unknown 'adagard'; known: adadelta"),
    ({"loss": {"label_smoothing": 0.1, "name": "torch.nn:MSELoss"}},
     "loss.label_smoothing: is of the loss cross_entropy"),
    ({"optim": {"clip_norm": 0}}, "optim.clip_norm: expected more than 0"),
    ({"exchange": {"kind": "adasumm"}}, "exchange.kind: unknown 'adasumm'; known: adasum, allreduce"),
    ({"exchange": {"kind": "adasum", "average": True}}, "exchange.average: unknown key; known: compression"),
    ({"pass.mikro": {}}, "pass: unknown 'mikro'; known: extrapolate, micro"),
    ({"pass.micro": {}}, "pass.micro.samples: missing"),
    ({"pass.micro": {"samples": 0}}, "pass.micro.samples: expected 1 or more, got 0"),
    ({"pass.extrapolate": {"direction": "none"}},
     "pass.extrapolate.direction: expected 'past', 'fresh' or 'noise', got 'none'"),
])
def test_what_does_not_fit_is_refused_before_the_run(tmp_path, digits, config, capsys, tables, message):
    assert main(["train", str(config(digits, **tables)), "--run-dir", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run" / "metrics.jsonl").exists()


def test_parts_of_images_whose_gradients_lie_pixel_by_pixel(tmp_path, digits, config, hpcfilter):
    """120 samples in parts of at most 7: none is left alone, which BatchNorm could not normalise."""
    path = config(digits, train={"channels_last": True, "epochs": 1}, **{"pass.micro": {"samples": 7}})
    ok(hpcfilter(2, "train", path, "--run-dir", tmp_path / "run"))
    assert read_run(tmp_path / "run")[2]["accuracy"] > 0.2


def test_adasum_has_the_rate_of_one_ranks_batch(tmp_path, digits, config, hpcfilter):
    path = config(digits, exchange={"kind": "adasum"}, optim={"lr_batch": 60, "lr": 0.01},
                  schedule={"name": "constant"})
    ok(hpcfilter(2, "train", path, "--run-dir", tmp_path / "run"))
    assert read_run(tmp_path / "run")[1][0]["lr"] == pytest.approx(0.01)


def test_adasum_needs_a_power_of_two(tmp_path, digits, config, hpcfilter):
    done = hpcfilter(3, "train", config(digits, exchange={"kind": "adasum"}), "--run-dir", tmp_path / "run")
    assert done.returncode == 2 and "needs 1, 2, 4, 8, ... ranks, got 3" in done.stderr


def rates(run, generation):
    """The rates of the parameter groups that a generation holds."""
    state = torch.load(run / "checkpoints" / generation / "model.pt", weights_only=True)["optimizer"]
    return [group["lr"] for group in state["param_groups"]]


def test_parameter_groups_keep_their_ratio_when_resumed_and_begun_anew(tmp_path, digits, config, capsys):
    """The saved groups hold the rates of their step: the ratio is that of the factory all the same."""
    phase = [{"epochs": 2}, {"epochs": 2, "weights": "fresh", "filter": {"policy": "forget"}}]
    path = config(digits, phase=phase, optim={"name": "custom:two_rates"}, schedule={"name": "cosine"},
                  checkpoint={"keep": 9})
    assert main(["train", str(path), "--run-dir", str(tmp_path / "whole")]) == 0
    assert ("learning rate: its parameter groups get 0.01, "
            "1 times the scheduled rate" in capsys.readouterr().out)
    _, epochs, end = read_run(tmp_path / "whole")
    for epoch, row in enumerate(epochs):
        assert (rates(tmp_path / "whole", f"epoch-{epoch:05d}") == [row["lr"] * 0.01, row["lr"]]
                and row["lr"] > 0)
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    for epoch in (1, 2, 3):
        shutil.rmtree(tmp_path / "resumed" / "checkpoints" / f"epoch-{epoch:05d}")
    (tmp_path / "resumed" / "DONE").unlink()
    assert main(["train", str(path), "--run-dir", str(tmp_path / "resumed"), "--resume"]) == 0
    assert read_run(tmp_path / "resumed")[2]["weights"] == end["weights"]
    assert rates(tmp_path / "resumed", "epoch-00003") == rates(tmp_path / "whole", "epoch-00003")


def test_parameter_groups_keep_their_ratio_on_two_ranks(tmp_path, digits, config, hpcfilter, monkeypatch):
    """Horovod makes an optimiser of its own from the groups; two ranks step as one does,
    also after a resume."""
    monkeypatch.chdir(HELPERS)  # where custom is
    path = config(digits, model={"name": "mlp", "width": None}, optim={"name": "custom:two_rates"},
                  **{"pass.extrapolate": {"direction": "past"}})
    ok(hpcfilter(2, "train", path, "--run-dir", tmp_path / "two", "--set", "train.epochs=1"))
    ok(hpcfilter(2, "train", path, "--run-dir", tmp_path / "two", "--resume"))
    row = read_run(tmp_path / "two")[1][1]
    assert rates(tmp_path / "two", "epoch-00001") == [row["lr"] * 0.01, row["lr"]]
