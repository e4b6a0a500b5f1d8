"""Mistakes in the user's own code: one line before the run, which says what was got, what is expected, and
which line of theirs it is."""

import inspect
import subprocess
import sys

import h5py
import mistakes
import numpy as np
import pytest
import torch
from commands import ok, rows
from own import own, refused

from hpcfilter.base.errors import InputError
from hpcfilter.cli import main
from hpcfilter.study.report import read_run
from hpcfilter.train.optim import make_optimizer
from hpcfilter.train.optim.optimisers import TORCHS
from hpcfilter.train.schema import Optim

TIMEOUT = 90


def anew(looks, rest):
    """Phases of a run that looks for some epochs, and begins anew with what FORGET leaves for the rest."""
    return [{"epochs": looks}, {"epochs": rest, "weights": "fresh", "filter": {"policy": "forget"}}]


def line_of(text):
    """Where a text stands in mistakes.py, as the messages name it."""
    lines = inspect.getsource(mistakes).splitlines()
    (number,) = [number for number, line in enumerate(lines, 1) if text in line]
    return f"mistakes.py, line {number})"


MODELS = {
    "a_tuple": ("model: returned a tuple of 2 (Tensor, Tensor), expected one tensor of shape (2, 10)", None),
    "a_dict": ("model: returned a dict with 'logits', expected one tensor", None),
    "nothing": ("model: returned None, expected one tensor of shape (2, 10)", None),
    "numbers": ("model: returned numbers of type int64", None),
    "few": ("model: returned a tensor of shape (2, 3), expected one tensor of shape (2, 10)", None),
    "detached": ("model: its outputs do not depend on the weights", None),
    "missing_attribute": ("AttributeError: 'missing_attribute' object has no attribute 'head'",
                          "return self.head(y)"),
    "missing_key": ("KeyError: 'logits'", 'return {}["logits"]'),
    "asserts": ("AssertionError: expected 99 classes", 'assert y.shape[1] == 99'),
    "pair_in_training": ("model: returned a tuple of 2", None),
    "fails_in_training": ("AssertionError: only in training", "assert not self.training"),
    "NoForward": ('NotImplementedError: Module [NoForward] is missing the required "forward" function',
                  "class NoForward"),
    "MakesLayersLate": ("model: its first forward pass makes the parameters last.bias, last.weight, "
                        "which no optimiser would know", None),
    "LazyAndUnused": ("model: spare.weight of LazyAndUnused is lazy, and no forward pass in eval mode gives "
                      "it a shape", "class LazyAndUnused"),
    "frozen": ("model: has no parameter that can be trained", None),
    "no_parameters": ("model: has no parameter that can be trained", None),
    "no_return": ("model: no_return returned None, expected a torch.nn.Module", "def no_return"),
    "the_class": ("model: the_class returned the class Net, expected a torch.nn.Module", "def the_class"),
    "raises": ("model: raises cannot be made for inputs (1, 8, 8) and 10 outputs: KeyError: 'width'",
               'raise KeyError("width")'),
    "no_arguments": ("no_arguments takes (), expected a factory: called as (inputs, outputs, *, "
                     "keys of [model])", "def no_arguments"),
    "by_position": ("model.hidden: unknown key; there are no other keys (of by_position, "
                    "which takes it by position: put a * before", None),
    "unreadable": ("model: the parameters of unreadable cannot be read: NameError: "
                   "name 'Undefined' is not defined", "def unreadable"),
    "a_number": ("model.factory: got an int, expected a factory", None),
}
OTHERS = [
    ("loss.name", "mean_loss", "got values of shape (), expected one per sample, (2,); "
     "the losses of torch give them with reduction", None),
    ("loss.name",
     "float_loss", "loss.name: returned a float, expected a tensor", "return lambda output, target: 1.0"),
    ("loss.name", "class_loss", "loss.name: mistakes:class_loss returned the class CrossEntropyLoss, "
     "expected a factory", "def class_loss"),
    ("loss.name", "detached_loss", "loss.name: its values do not depend on the weights",
     "output.detach(), target"),
    ("loss.name", "third_argument", "missing 1 required positional argument: 'weight'",
     "lambda output, target, weight"),
    ("loss.name", "loss_itself",
     "loss.name: loss_itself takes (output, target), expected a factory: called as ()", "def loss_itself"),
    ("loss.name", "torch.nn.functional:cross_entropy",
     "loss.name: cross_entropy takes (input, target, weight, ", None),
    ("optim.name", "returns_no_optimizer", "optim.name: mistakes:returns_no_optimizer returned None",
     "def returns_no_optimizer"),
    ("optim.name", "of_another_model", "an optimiser of 2 parameters, none of which the model trains",
     "def of_another_model"),
    ("optim.name", "of_no_parameters", "ValueError: optimizer got an empty parameter list",
     "torch.optim.SGD([], lr"),
    ("optim.name", "wants_a_closure", "optim.name: LBFGS calls the loss again and again within a step", None),
    ("optim.name", "NeedsMore", "cannot be made with the parameters: TypeError: "
     "NeedsMore.__init__() missing 1 required", "class NeedsMore"),
    ("optim.name", "a_number", "optim.name: got an int, expected a factory", None),
    ("data.augment",
     "images_alone", "returned a memmap, expected two, images and labels", "def images_alone"),
    ("data.augment",
     "fewer_labels", "returned labels of shape (118,), expected numbers of shape (119,)", "def fewer_labels"),
    ("data.augment", "smaller", "returned images of shape (119, 7, 8), expected numbers of shape (119, 8, 8)",
     "def smaller"),
    ("data.augment", "objects", "returned images of type object", "def objects"),
    ("data.augment", "other_classes",
     "returned labels of type int64 from 1 to 10, expected whole numbers from 0 to 9", "def other_classes"),
    ("data.augment", "soft_labels", "returned labels of type float64", "def soft_labels"),
    ("data.augment", "two_arguments", "two_arguments takes (images, labels), expected (images, labels, "
     "index, seed, epoch)", "def two_arguments"),
    ("filter.policy", "one_argument", "one_argument takes (scores), expected (scores, epoch, seed, comm",
     "def one_argument"),
    ("filter.policy", "a_number", "filter.policy: got an int, expected (scores, epoch", None),
    ("score.name", "MeanScore", "score.name: got values of shape (), expected one per sample, (2,)", None),
    ("score.name", "BrokenLook", "has no attribute 'nonsense'", "losses.nonsense"),
    ("score.name", "BrokenMemory", "fails to remember: KeyError: 'seen'", 'memory["seen"]'),
    ("score.name", "a_number", "score.name: got an int, expected a class made from hpcfilter.Score", None),
]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_ones_own(tmp_path, digits, config, capsys, name):
    message, text = MODELS[name]
    parts = [message] + ([line_of(text)] if text else [])
    path = config(digits, model={**own(name)["model"], "hidden": 4 if name == "by_position" else None})
    refused(["train", path, "--run-dir", tmp_path / "run"], capsys, *parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key, name, message, text", OTHERS, ids=[name for _, name, *_ in OTHERS])
def test_what_else_is_ones_own(tmp_path, digits, config, capsys, key, name, message, text):
    table, _, field = key.partition(".")
    path = config(digits, **own("Net"), **{table: {field: name if ":" in name else f"mistakes:{name}"}})
    refused(["train", path, "--run-dir", tmp_path / "run"], capsys, f"{key}: ", message,
            *([line_of(text)] if text else []))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("tables, message, text", [
    ({"data": {"augment": "mistakes:fails_later"}},
     "data.augment: ZeroDivisionError: in the second epoch", "raise ZeroDivisionError"),
    ({"filter": {"policy": "mistakes:no_selection"}},
     "filter.policy: no_selection returned a ndarray, expected a hpcfilter", "def no_selection"),
    ({"optim": {"name": "mistakes:FailingStep"}}, "optim.name: its step fails: RuntimeError: no step",
     'RuntimeError("no step")'),
], ids=["augmentation", "policy", "optimizer"])
def test_what_fails_only_in_the_run(tmp_path, digits, config, capsys, tables, message, text):
    refused(["train", config(digits, **own("Net"), **tables), "--run-dir", tmp_path / "run"], capsys, message,
            line_of(text))


def test_the_traceback_when_it_is_asked_for(tmp_path, digits, config, capsys, monkeypatch):
    words = ["train", str(config(digits, **own("raises"))), "--run-dir", str(tmp_path / "run")]
    for asked in ([*words, "--traceback"], ["--traceback", *words]):
        assert main(asked) == 2
        first, *rest = capsys.readouterr().err.splitlines()
        assert "KeyError: 'width'" in first and 'raise KeyError("width")' in " ".join(rest)
    monkeypatch.setenv("HPCFILTER_TRACEBACK", "1")
    assert main(["report", str(tmp_path / "gone")]) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mirrored", "tensors"])
def test_augmentations_that_are_right(tmp_path, digits, config, name):
    path = config(digits, data={"augment": f"mistakes:{name}"}, train={"epochs": 1})
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run")]) == 0


def test_lazy_layers(tmp_path, digits, config):
    """Also where the network begins anew in the middle of the run."""
    path = config(digits, **own("lazy"), phase=anew(1, 2))
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run")]) == 0
    assert read_run(tmp_path / "run")[2]["accuracy"] > 0.3
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run"), "--resume"]) == 0
    assert main(["score", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("name", sorted(set(TORCHS) - {"lbfgs", "sparseadam", "muon", "sgd"}))
def test_every_optimiser_of_torch(tmp_path, digits, config, name):
    """Also where the network begins anew, and the optimiser with it."""
    path = config(digits, model={"name": "mlp", "width": None, "hidden": 8}, phase=anew(1, 1),
                  optim={"name": name, "lr": 0.01})
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run")]) == 0


def test_settings_of_an_optimiser():
    model = torch.nn.Linear(2, 2)
    made = make_optimizer(model,
                          Optim(name="adam", weight_decay=0.1, options={"betas": [0.5, 0.6], "eps": 0.1}))
    assert type(made) is torch.optim.Adam
    assert [made.defaults[key] for key in ("betas", "eps", "weight_decay")] == [(0.5, 0.6), 0.1, 0.1]
    assert make_optimizer(model, Optim(name="torch.optim:RMSprop", momentum=0.3)).defaults["momentum"] == 0.3
    assert make_optimizer(model, Optim(name="sgd")).defaults["nesterov"]
    for options, message in (({"beta": 1}, "optim.options.beta: unknown key; known: betas, eps, amsgrad"),
                             ({"lr": 1}, "lr, momentum and weight_decay are keys of"),
                             ({"betas": [2, 3]}, "Invalid beta parameter")):
        with pytest.raises(InputError, match=message):
            make_optimizer(model, Optim(name="adam", options=options))


def test_keys_that_would_be_ignored(tmp_path, digits, config, capsys):
    for tables, message in (
            ({"model": {"factory": "mistakes:Net", "name": "mlp", "width": None}},
             "model.name: got 'mlp', which would be ignored"),
            ({"optim": {"name": "adamw", "momentum": 0.5}},
             "optim.momentum: got 0.5, which would be ignored: the optimiser adamw has none"),
            ({"optim": {"trust": 0.01}},
             "optim.trust: got 0.01, which would be ignored: the optimiser sgd has none"),
            ({"optim": {"name": "rprop", "weight_decay": 0.1}}, "optim.weight_decay: got 0.1"),
            ({"optim": {"name": "lars", "options": {"eps": 1}}}, "optim.options: "),
            ({"data": {"augment": "mistakes:mirrored", "shift": 2}}, "data.shift: got 2"),
            ({"data": {"shift": 2}}, "data.shift: got 2"),
            ({"schedule": {"gamma": 0.5}}, 'schedule.gamma: got 0.5, which would be ignored: '
             'it is of schedule.name = "step", got "cosine"'),
            ({"schedule": {"power": 1}}, "schedule.power: got 1.0"),
            ({"schedule": {"name": "polynomial", "milestones": [0.5]}}, "schedule.milestones: got [0.5]")):
        path = config(digits, **tables)
        refused(["train", path, "--run-dir", tmp_path / "run"], capsys, f"{path}, line ", message)
    path = config(digits, **own("Net"))
    for name in ("cnn", "no_such_model"):
        refused(["train", path, "--run-dir", tmp_path / "run", "--set", f"model.name={name}"], capsys,
                f"command line: model.name: got '{name}'")


def test_what_a_run_folder_says_of_itself_is_not_refused(tmp_path, digits, config):
    """Its config.toml has every key, those that come to nothing too."""
    path = config(digits, **own("Net"), train={"epochs": 1}, optim={"name": "adamw", "options": None},
                  data={"augment": "none", "shift": 1})
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run")]) == 0
    written = tmp_path / "run" / "config.toml"
    assert ("momentum" in written.read_text()
            and main(["train", str(written), "--run-dir", str(tmp_path / "again")]) == 0)
    assert (main(["train", str(written), "--run-dir", str(tmp_path / "run"), "--resume"]) == 0
            and main(["score", str(tmp_path / "run")]) == 0)


@pytest.mark.parametrize("ranks", [1, 2])
def test_one_of_torchs_optimisers_goes_on_with_the_same_bits(tmp_path, digits, config, hpcfilter, ranks):
    optim = {"name": "adamw", "lr": 0.002, "options": {"betas": [0.8, 0.99], "eps": 1e-6}}
    path = config(digits, optim=optim, checkpoint={"seconds": 1e-6})
    ok(hpcfilter(ranks, "train", path, "--run-dir", tmp_path / "whole"))
    cut = hpcfilter(ranks, "train", path, "--run-dir", tmp_path / "cut",
                    HPCFILTER_FAULT="rank=0,point=after_step,n=17,kind=sigkill")
    assert cut.returncode != 0
    ok(hpcfilter(ranks, "train", path, "--run-dir", tmp_path / "cut", "--resume"))
    assert rows(tmp_path / "cut", "run")[-1]["first_step"] > 0, "inside an epoch"
    assert read_run(tmp_path / "cut")[2]["weights"] == read_run(tmp_path / "whole")[2]["weights"]


def test_an_optimiser_that_horovod_would_make_otherwise(tmp_path, digits, config, hpcfilter, monkeypatch):
    from conftest import HELPERS

    monkeypatch.setenv("PYTHONPATH", str(HELPERS))
    path = config(digits, train={"epochs": 1}, optim={"name": "mistakes:forgetful"})
    done = hpcfilter(2, "train", path, "--run-dir", tmp_path / "two")
    assert done.returncode == 2 and "with factor = 1.0 instead of 2.0" in done.stderr
    ok(hpcfilter(1, "train", path, "--run-dir", tmp_path / "one"))


def test_a_foreign_file_beside_such_a_module(tmp_path, monkeypatch):
    """`pack` has a process of its own look into it first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "select.py").write_text("raise RuntimeError('not this one')")
    with h5py.File("chunked.h5", "w") as file:
        file.create_dataset("images", data=np.zeros((20, 4, 4), np.uint8), chunks=(5, 4, 4),
                            compression="gzip")
        file["labels"] = np.arange(20) % 2
    assert main(["pack", "chunked.h5", "-o", "packed.h5"]) == 0


@pytest.mark.parametrize("name", ["random", "select", "queue", "copy", "numpy", "torch"])
def test_a_module_in_the_current_folder_with_the_name_of_another(tmp_path, digits, config, monkeypatch,
                                                                 capsys, name):
    """It takes the place of nobody else's; the one who asks for it is told to rename it."""
    (tmp_path / f"{name}.py").write_text("def net(inputs, outputs):\n    pass\n")
    path = config(digits, train={"epochs": 1})
    words = [sys.executable, "-m", "hpcfilter", "train", str(path), "--run-dir"]
    done = subprocess.run([*words, "run"], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT,
                          check=False)
    assert done.returncode == 0, done.stderr
    path = config(digits, model={"name": None, "width": None, "factory": f"{name}:net"})
    monkeypatch.chdir(tmp_path)
    refused(["train", path, "--run-dir", "own"], capsys, f"{name}.py in the current folder is hidden by")
