"""Phases: stretches of epochs, each with weights, trained parameters and a filter of its own."""

import shutil

import pytest
import torch
from commands import ok, rows

from hpcfilter.base.errors import InputError
from hpcfilter.cli import main
from hpcfilter.study.report import read_run
from hpcfilter.train.config import load
from hpcfilter.train.phases import phase_of, weights_began

MLP = {"name": "mlp", "width": None, "hidden": 8, "depth": 1}  # parameters 1.weight, 1.bias, 3.weight, 3.bias
OPTIM = {"lr": 0.1, "weight_decay": 0.01, "momentum": 0.9}
CUT = {"policy": "forget", "fraction": 0.3}


def train(path, folder, *words):
    assert main(["train", str(path), "--run-dir", str(folder), *words]) == 0
    return read_run(folder)


def refused(path, folder, capsys, *parts, words=()):
    assert main(["train", str(path), "--run-dir", str(folder), *words]) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in parts) and error.count("\n") == 1, error


def weights(folder, epoch):
    """The weights after an epoch, name -> tensor."""
    return torch.load(folder / "checkpoints" / f"epoch-{epoch:05d}" / "model.pt", weights_only=True)["model"]


def same(one, other):
    """The names of the tensors that are equal, bit for bit."""
    return {name for name in one if torch.equal(one[name], other[name])}


@pytest.fixture
def phases(digits, config):
    """phases(*tables, **others) -> path of a run config with these phases."""
    return lambda *tables, **others: config(digits, **{"model": MLP, "optim": OPTIM,
                                                       "checkpoint": {"keep": 9}, **others},
                                            phase=list(tables))


@pytest.fixture(scope="module")
def base(digits, tmp_path_factory):
    """The folder of a finished run of the same network."""
    folder = tmp_path_factory.mktemp("base")
    model = "name = 'mlp'\nhidden = 8\ndepth = 1"
    (folder / "run.toml").write_text(f"seed = 8\n[data]\npath = '{digits}'\n[model]\n{model}\n[train]\n"
                                     "epochs = 1\nglobal_batch = 120\n")
    train(folder / "run.toml", folder / "run")
    return folder / "run"


# ---- the stretches

def test_a_run_without_phases_has_one(phases, digits, config):
    found = load(config(digits, train={"epochs": 7}))
    assert [(phase.epochs, phase.weights, phase.train)
            for phase in found.all_phases()] == [(7, "kept", "all")]
    found = load(phases({"epochs": 2}, {"epochs": 3, "weights": "fresh"}, {"epochs": 1}))
    assert found.train.epochs == 6
    assert [phase_of(found, epoch) for epoch in range(6)] == [(0, 0), (0, 0), (1, 2), (1, 2), (1, 2), (2, 5)]
    assert [weights_began(found, epoch) for epoch in range(6)] == [0, 0, 2, 2, 2, 2]


def test_phases_that_keep_everything_are_the_run_without_them(phases, digits, config, tmp_path):
    whole = train(config(digits, model=MLP, optim=OPTIM, train={"epochs": 3}), tmp_path / "whole")
    parts = train(phases({"epochs": 1}, {"epochs": 2}), tmp_path / "parts")
    assert (parts[2]["weights"] == whole[2]["weights"]
            and [row["lr"] for row in parts[1]] == [row["lr"] for row in whole[1]])


def test_their_epochs_can_be_set(phases, tmp_path):
    path = phases({"epochs": 1}, {"epochs": 1})
    assert len(train(path, tmp_path / "run", "--set", "phase.1.epochs=3")[1]) == 4
    with pytest.raises(InputError, match="expected the number of a table in the list, from 0 to 1"):
        load(path, ["phase.2.epochs=3"])
    with pytest.raises(InputError,
                       match="'phase' is a list of tables; expected phase.0.KEY=VALUE for its first"):
        load(path, ["phase.epochs=3"])


def test_train_epochs_that_contradict_them(phases, tmp_path, capsys):
    path = phases({"epochs": 1}, {"epochs": 2})
    refused(path, tmp_path / "run", capsys, "train.epochs: got 5, but the phases have 3 epochs in all; "
            "leave train.epochs out", words=["--set", "train.epochs=5"])
    assert load(path, ["train.epochs=3"]).train.epochs == 3


@pytest.mark.parametrize("phase, message", [
    ({"epoch": 3},
     "phase.1.epoch: unknown key; known: epochs, weights, train, filter; did you mean 'epochs'?"),
    ({"epochs": 0}, "phase.1.epochs: expected 1 or more, got 0"),
    ({"filter": {"policy": "forget", "fraction": 1.5}},
     "phase.1.filter.fraction: expected less than 1, got 1.5"),
    ({"filter": {"policy": "forget", "fractoin": 0.5}},
     "phase.1.filter.fractoin: unknown key; known: fraction, per_class"),
    ({"filter": {"policy": "forgett"}}, "phase.1.filter.policy: unknown 'forgett'"),
    ({"filter": {"policy": "static", "selection": "gone.h5"}}, "gone.h5: cannot read"),
    ({"filter": {"policy": "dyn_unc"}},
     "phase.1.filter.policy: the score dyn_unc is known after 10 epochs, got a cut after 1"),
    ({"train": "head.*"}, "phase.1.train: got 'head.*', which no parameter matches; there are: "
     "1.bias, 1.weight, 3.bias, 3.weight"),
    ({"weights": "no/such/run"},
     "phase.1.weights: {cwd}/no/such/run: no checkpoints there of a finished epoch; expected a run folder"),
])
def test_mistakes_name_the_phase_and_its_line(phases, tmp_path, capsys, monkeypatch, phase, message):
    monkeypatch.chdir(tmp_path)
    message = message.replace("{cwd}", str(tmp_path))
    path = phases({"epochs": 1}, {"epochs": 1, **phase})
    (key,) = set(phase)
    line = 1 + [number for number, text in enumerate(path.read_text().splitlines())
                if text.startswith(f"{key} =")][-1]
    place = "" if message.startswith("gone.h5") else f"{path}, line {line}: "
    refused(path, tmp_path / "run", capsys, f"{place}{message}")
    assert not (tmp_path / "run" / "metrics.jsonl").exists(), "before anything is trained"


def test_a_cut_in_the_first_phase_has_nothing_to_go_by(phases, tmp_path, capsys):
    refused(phases({"epochs": 1, "filter": CUT}, {"epochs": 1}), tmp_path / "run", capsys,
            "phase.0.filter.policy: forget cuts once, by what")


# ---- weights

def test_kept_weights_go_on_and_so_does_the_rate(phases, tmp_path):
    _, epochs, _ = train(phases({"epochs": 2}, {"epochs": 2, "filter": CUT}), tmp_path / "run")
    rates = [row["lr"] for row in epochs]
    assert rates == sorted(rates, reverse=True) and [row["hidden"] for row in epochs] == [0, 0, 431, 431]
    assert epochs[2]["train_loss"] < epochs[1]["train_loss"] + 0.1


def test_fresh_weights_are_another_beginning(phases, tmp_path):
    _, epochs, _ = train(phases({"epochs": 2}, {"epochs": 2, "weights": "fresh", "filter": CUT}),
                         tmp_path / "run")
    assert epochs[2]["lr"] > epochs[1]["lr"] and epochs[2]["train_loss"] > epochs[1]["train_loss"] + 0.1
    assert [row["hidden"] for row in epochs] == [0, 0, 431, 431]


def test_weights_of_another_run(phases, base, tmp_path, capsys):
    """At a rate of next to nothing they are what they were."""
    path = phases({"epochs": 1}, {"epochs": 1, "weights": str(base)},
                  optim={"lr": 1e-12, "weight_decay": 0.0})
    train(path, tmp_path / "run")
    assert f"weights of {base}/checkpoints/epoch-00000" in capsys.readouterr().out
    theirs, mine, before = weights(base, 0), weights(tmp_path / "run", 1), weights(tmp_path / "run", 0)
    assert (all(torch.allclose(mine[name], theirs[name], atol=1e-9) for name in mine)
            and not same(mine, before) & {"1.weight", "3.weight"})


def test_the_first_phase_begins_with_the_weights_of_the_run(phases, base, tmp_path, capsys):
    refused(phases({"epochs": 1, "weights": str(base)}, {"epochs": 1}), tmp_path / "run", capsys,
            "phase.0.weights: got ",
            'the first phase begins with the weights of the run; expected [model] start = "')


def test_weights_that_do_not_fit_are_known_before_the_run(phases, base, tmp_path, capsys):
    path = phases({"epochs": 1}, {"epochs": 1, "weights": str(base)}, model={**MLP, "depth": 2})
    refused(path, tmp_path / "run", capsys, f"{path}, line ",
            f"phase.1.weights: {base}/checkpoints/epoch-00000: has another network: 5.bias,")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


# ---- trained parameters

def test_what_is_not_trained_keeps_its_bits(phases, tmp_path):
    """With weight decay and momentum, which would move what has no gradient."""
    train(phases({"epochs": 1}, {"epochs": 2, "train": "3.*"}, {"epochs": 1, "train": "1.weight"}),
          tmp_path / "run")
    after = [weights(tmp_path / "run", epoch) for epoch in range(4)]
    assert same(after[0], after[1]) == same(after[1], after[2]) == {"1.weight", "1.bias"}
    assert same(after[2], after[3]) == {"1.bias", "3.weight", "3.bias"}


@pytest.mark.parametrize("optim", [{"name": "lars", "trust": 0.02}, {"name": "adamw"}, {"clip_norm": 0.1}],
                         ids=["lars", "adamw", "clip"])
def test_with_other_optimisers_too(phases, tmp_path, optim):
    train(phases({"epochs": 1}, {"epochs": 1, "train": "3.*"},
                 optim={"lr": 0.05, "weight_decay": 0.01, **optim}), tmp_path / "run")
    assert same(weights(tmp_path / "run", 0), weights(tmp_path / "run", 1)) == {"1.weight", "1.bias"}


def test_with_passes_around(phases, tmp_path):
    passes = {"pass.extrapolate": {"direction": "past", "distance": 0.5}, "pass.micro": {"samples": 50}}
    train(phases({"epochs": 1}, {"epochs": 1, "train": "3.*"}, **passes), tmp_path / "run")
    assert same(weights(tmp_path / "run", 0), weights(tmp_path / "run", 1)) == {"1.weight", "1.bias"}


# ---- stopping and going on

@pytest.mark.parametrize("second", [{"weights": "kept"}, {"weights": "fresh", "filter": CUT},
                                    {"train": "3.*"}, {"weights": "base", "train": "3.*"}],
                         ids=["kept", "fresh", "head", "base"])
def test_resumed_at_and_inside_the_second_phase(phases, base, tmp_path, monkeypatch, second):
    """Equal bits; the last checkpoint of the first phase leads into the second, one inside
    goes on with it."""
    second = {**second, "weights": str(base)} if second.get("weights") == "base" else second
    path = phases({"epochs": 2}, {"epochs": 2, **second})
    _, _, end = train(path, tmp_path / "whole")
    for name, left in (("at", 1), ("within", 2)):
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        (tmp_path / name / "DONE").unlink()
        for epoch in range(left + 1, 4):
            shutil.rmtree(tmp_path / name / "checkpoints" / f"epoch-{epoch:05d}")
        # whose deadline has passed: it leaves in the middle of the next epoch
        with monkeypatch.context() as job:
            job.setenv("HPCFILTER_DEADLINE", "1")
            assert main(["train", str(path), "--run-dir", str(tmp_path / name), "--resume"]) == 0
        assert list((tmp_path / name / "checkpoints").glob(f"epoch-{left + 1:05d}-step-0000*"))
        assert train(path, tmp_path / name, "--resume")[2]["weights"] == end["weights"]


def test_a_resumed_run_has_the_phases_that_it_began_with(phases, tmp_path, capsys):
    tables = {"epochs": 1}, {"epochs": 1, "train": "3.*"}
    train(phases(*tables), tmp_path / "run")
    for other in (({"epochs": 1}, {"epochs": 1, "train": "1.*"}),
                  ({"epochs": 2}, {"epochs": 1, "train": "3.*"})):
        refused(phases(*other), tmp_path / "run", capsys, "the run began with", words=["--resume"])
    assert len(train(phases(tables[0], {**tables[1], "epochs": 2}), tmp_path / "run",
                     "--resume")[1]) == 3, "the last may be longer"


def test_on_two_ranks(phases, tmp_path, hpcfilter):
    """Frozen parameters keep their bits, and the run its own when it goes on from the end of a phase."""
    path = phases({"epochs": 1}, {"epochs": 1, "train": "3.*"},
                  {"epochs": 1, "weights": "fresh", "filter": CUT})
    ok(hpcfilter(2, "train", path, "--run-dir", tmp_path / "run"))
    end = read_run(tmp_path / "run")[2]["weights"]
    assert same(weights(tmp_path / "run", 0), weights(tmp_path / "run", 1)) == {"1.weight", "1.bias"}
    for epoch in (1, 2):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"epoch-{epoch:05d}")
    (tmp_path / "run" / "DONE").unlink()
    ok(hpcfilter(2, "train", path, "--run-dir", tmp_path / "run", "--resume"))
    assert (read_run(tmp_path / "run")[2]["weights"] == end
            and rows(tmp_path / "run", "run")[-1]["first_epoch"] == 1)
