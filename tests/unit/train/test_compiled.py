"""train.compile: the same results up to rounding, the same names, one line where it cannot be."""

from functools import partial

import numpy as np
import pytest
import torch

from hpcfilter.cli import main
from hpcfilter.data import open_packed
from hpcfilter.study.report import read_run
from hpcfilter.train.checkpoint import of_epoch, read_weights
from hpcfilter.train.config import load
from hpcfilter.train.network import Network

# of torch's own, when its compiler is imported
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
KAKURENBO = {"policy": "kakurenbo", "fraction": 0.3, "tau": 0.2}


@pytest.fixture
def traced(monkeypatch):
    """torch.compile without a compiler: the model is traced and guarded all the same."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def run(tmp_path, path, name, *words):
    assert main(["train", str(path), "--run-dir", str(tmp_path / name), *words]) == 0
    return read_run(tmp_path / name), read_weights(of_epoch(tmp_path / name)[0])["model"]


def close(one, other):
    assert list(one) == list(other), "names of the weights"
    for name, tensor in one.items():
        assert torch.allclose(tensor.double(), other[name].double(), rtol=1e-3, atol=1e-4), name


def compare(tmp_path, digits, config, capsys, mode):
    """Two epochs with and without. Scores of the last layer's inputs, so that its hook is asked, too."""
    tables = {"filter": KAKURENBO, "score": {"name": "grand"}, "train": {"epochs": 2}}
    (plain, plain_epochs, _), weights = run(tmp_path, config(digits, **tables), "plain")
    tables["train"]["compile"] = mode
    capsys.readouterr()
    (ours, epochs, _), compiled = run(tmp_path, config(digits, **tables), "compiled")
    assert (plain["compile"], ours["compile"]) == (False, mode)
    assert f"train.compile: {str(mode).lower()}; torch compiles again" in capsys.readouterr().out
    close(weights, compiled)
    assert epochs[0]["selection"] == plain_epochs[0]["selection"]
    assert [row["train_loss"] for row in epochs] == pytest.approx(
        [row["train_loss"] for row in plain_epochs], rel=1e-3)


def test_a_traced_model_gives_the_same(tmp_path, digits, config, capsys, traced):
    compare(tmp_path, digits, config, capsys, True)


def gradients(network, rows):
    x, y = network.tensors(*rows)
    output, losses = network.forward(x, y)
    found = network.measure(output, y, losses)["value"]
    return [losses.detach(), found, *torch.autograd.grad(losses.mean(), [*network.model.parameters()])]


@pytest.mark.nightly
def test_compiled_gradients_are_the_same_up_to_rounding(digits, config):
    """Over batches of several sizes, in training and in a look; and a run learns as much."""
    torch._dynamo.reset()
    network = Network(load(config(digits, score={"name": "grand"})), open_packed(digits))
    split = open_packed(digits).train
    for size in (60, 59, 17):
        rows, found = split.rows(np.arange(size)), {}
        for mode in (False, "reduce-overhead"):
            network.compile(mode)
            found[mode] = gradients(network, rows)
        for one, other in zip(*found.values(), strict=True):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)
    compiled = network.infer(split, np.arange(300), 64)
    network.compile(False)
    plain = network.infer(split, np.arange(300), 64)
    assert np.allclose(plain[1], compiled[1], atol=1e-4)
    assert np.allclose(plain[0]["value"], compiled[0]["value"], atol=1e-3)


@pytest.mark.nightly
def test_dropout_draws_what_it_draws_without(digits, config):
    torch._dynamo.reset()
    network, split = Network(load(config(digits)), open_packed(digits)), open_packed(digits).train
    network.model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.Dropout(0.5),
                                        torch.nn.Linear(32, 10))
    found = []
    for mode, number in ((False, 5), (True, 5), (True, 6)):
        network.compile(mode)
        network.seed(number)
        found.append(gradients(network, split.rows(np.arange(40))))
    for one, other in zip(*found[:2], strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(found[0][0], found[2][0], atol=1e-2)


@pytest.mark.nightly
def test_a_compiled_run_learns_as_much(tmp_path, digits, config):
    torch._dynamo.reset()
    ends = [run(tmp_path, config(digits, filter=KAKURENBO, train={"epochs": 4, "compile": mode}), name)[0][1]
            for name, mode in (("plain", False), ("compiled", True))]
    plain, compiled = (epochs[-1] for epochs in ends)
    assert plain["kept"] == pytest.approx(compiled["kept"], abs=60)
    assert plain["accuracy"] > 0.8 and compiled["accuracy"] == pytest.approx(plain["accuracy"], abs=0.03)


def test_a_checkpoint_serves_with_and_without(tmp_path, digits, config, traced):
    """A run that was begun compiled goes on without, and the other way round."""
    path = config(digits, train={"epochs": 2}, schedule={"name": "constant", "warmup_epochs": 0})
    weights = [run(tmp_path, path, "plain")[1]]
    for name, first, then in (("there", "true", "false"), ("back", "false", "true")):
        run(tmp_path, path, name, "--set", f"train.compile={first}", "--set", "train.epochs=1")
        weights.append(run(tmp_path, path, name, "--resume", "--set", f"train.compile={then}")[1])
    close(weights[0], weights[1])
    close(weights[0], weights[2])


def test_names_fingerprint_and_modes_stay(digits, config, traced):
    network, split = Network(load(config(digits)), open_packed(digits)), open_packed(digits).train
    names, fingerprint = list(network.model.state_dict()), network.fingerprint()
    index = np.arange(64)
    plain = network.infer(split, index, 32)
    network.compile("reduce-overhead")
    looked = network.infer(split, index, 32)
    assert np.allclose(plain[1], looked[1], atol=1e-5)
    assert network.model.training and list(network.model.state_dict()) == names
    assert network.fingerprint() == fingerprint
    network.compile(False)
    assert np.array_equal(network.infer(split, index, 32)[1], plain[1])


def test_where_it_cannot_be_one_line_says_so(tmp_path, digits, config, monkeypatch, capsys):
    def no_compiler(model, mode=None):
        def fails(x):
            raise RuntimeError("No working C++ compiler found")
        return fails

    monkeypatch.setattr(torch, "compile", no_compiler)
    path = config(digits, train={"compile": True})
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    for part in ("train.compile: got true, but the model cannot be compiled on cpu: ",
                 "RuntimeError: No working C++ compiler found", "expected a C++ compiler such as g++",
                 "or give compile = false"):
        assert part in error
    assert len(error.strip().splitlines()) == 1 and not (tmp_path / "run").exists()


@pytest.mark.parametrize("train, message", [
    ({"compile": "fastest"}, "train.compile"),
    ({"compile": "max-autotune", "deterministic": True}, "no two runs need have equal bits")])
def test_what_cannot_be_wanted(tmp_path, digits, config, capsys, train, message):
    assert main(["train", str(config(digits, train=train)), "--run-dir", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
