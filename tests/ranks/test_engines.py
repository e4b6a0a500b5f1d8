"""Law 9: what carries the gradients changes nothing. Horovod and torch.distributed give the same selection
and batches, and weights that are equal up to the order of sums."""

import numpy as np
import pytest
from commands import ok
from conftest import HELPERS
from launches import cold

from hpcfilter.study.report import read_run
from hpcfilter.train import checkpoint

EXPERTS = {"model": {"name": None, "width": None, "factory": "custom:experts"}}
RUNS = {  # name -> (ranks, tables)
    "kakurenbo": (2, {"filter": {"policy": "kakurenbo", "fraction": 0.3, "tau": 0.2}}),
    "infobatch in shard order": (2, {"filter": {"policy": "infobatch"}, "data": {"order": "shard"}}),
    "batch statistics": (2, {"model": {"name": "resnet18", "width": 4}, "train": {"epochs": 1}}),
    "parts": (2, {"pass": {"micro": {"samples": 20}}}),
    "extrapolated": (2, {"pass": {"extrapolate": {"direction": "past", "distance": 0.1}}}),
    "lamb": (2, {"optim": {"name": "lamb", "lr": 0.01}}),
    "noise scale, clipped": (2, {"record": {"noise_scale": True}, "optim": {"clip_norm": 0.5}}),
    "one process": (1, {}),
    "three ranks": (3, {"filter": {"policy": "random", "fraction": 0.4}, "train": {"global_batch": 90}}),
    "parameters without a gradient": (2, EXPERTS),
    "parameters without a gradient, parts": (2, {**EXPERTS, "pass": {"micro": {"samples": 7}}}),
    "ranks without samples": (3, {"train": {"global_batch": 2, "epochs": 1},
                                  "filter": {"policy": "random", "fraction": 0.9}}),
}


@pytest.fixture
def both(tmp_path, digits, config, hpcfilter, monkeypatch):
    """both(name) -> engine -> run folder."""
    def run(name):
        monkeypatch.setenv("PYTHONPATH", str(HELPERS))
        ranks, tables = RUNS[name]
        path = config(digits, **{"model": {"name": "mlp", "width": None}, **tables})
        for engine in ("horovod", "torch"):
            ok(hpcfilter(ranks, "train", path, "--run-dir", tmp_path / engine,
                         "--set", f"exchange.engine={engine}"))
        return {engine: tmp_path / engine for engine in ("horovod", "torch")}
    return run


def weights(folder):
    """The weights of a finished run, by name."""
    path = checkpoint.generations(folder / "checkpoints")[-1]
    return {name: tensor.numpy() for name, tensor in checkpoint.read_weights(path)["model"].items()}


SHORT = "kakurenbo", "three ranks", "ranks without samples", "parts"  # of `make test`


@pytest.mark.parametrize("name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.nightly)
                                  for name in RUNS])
def test_engines_agree(both, name):
    folders = both(name)
    (run, epochs, end), (other, same, other_end) = (read_run(folders[engine])
                                                    for engine in ("torch", "horovod"))
    ranks = RUNS[name][0]
    assert (run["engine"], other["engine"]) == (("none",) * 2 if ranks == 1 else ("torch", "horovod"))
    for mine, theirs in zip(epochs, same, strict=True):
        assert ([mine[key] for key in ("selection", "batches", "kept", "steps")]
                == [theirs[key] for key in ("selection", "batches", "kept", "steps")])
    if ranks <= 2:
        assert end["weights"] == other_end["weights"], "two numbers have one sum, in either order"
    for (key, one), (_, two) in zip(weights(folders["torch"]).items(), weights(folders["horovod"]).items(),
                                    strict=True):
        assert np.allclose(one, two, rtol=1e-4, atol=1e-5), key


@pytest.mark.parametrize("compression, digits_of_it", [("fp16", 1e-2), ("bf16", 3e-2)])
def test_sixteen_bits_are_near_to_thirty_two(tmp_path, digits, config, hpcfilter, compression, digits_of_it):
    path = config(digits, model={"name": "mlp", "width": None}, train={"epochs": 1},
                  exchange={"engine": "torch"})
    ok(hpcfilter(2, "train", path, "--run-dir", tmp_path / "whole"))
    ok(hpcfilter(2, "train", path, "--run-dir", tmp_path / "half", "--set",
                 f"exchange.compression={compression}"))
    assert read_run(tmp_path / "whole")[2]["weights"] != read_run(tmp_path / "half")[2]["weights"]
    whole, half = weights(tmp_path / "whole"), weights(tmp_path / "half")
    assert all(np.allclose(whole[key], half[key], atol=digits_of_it) for key in whole)


@pytest.mark.nightly
def test_a_killed_run_goes_on_to_the_same_bits_on_three_ranks(tmp_path, digits, config, hpcfilter):
    """The buckets are the same in the first step after a resumption as they would have been."""
    path = config(digits, train={"epochs": 2, "global_batch": 60}, exchange={"engine": "torch"},
                  filter=RUNS["kakurenbo"][1]["filter"], checkpoint={"seconds": 0.01})
    ok(hpcfilter(3, "train", path, "--run-dir", tmp_path / "whole"))
    fault = "rank=2,point=after_step,n=30,kind=sigkill"
    assert hpcfilter(3, "train", path, "--run-dir", tmp_path / "cut", HPCFILTER_FAULT=fault).returncode != 0
    ok(hpcfilter(3, "train", path, "--run-dir", tmp_path / "cut", "--resume"))
    assert read_run(tmp_path / "cut")[2]["weights"] == read_run(tmp_path / "whole")[2]["weights"]


def test_phases_that_train_other_parameters(tmp_path, digits, config, hpcfilter):
    path = config(digits, phase=[{"epochs": 1}, {"epochs": 1, "train": "13.*"}, {"epochs": 1}],
                  exchange={"engine": "torch"})
    ok(hpcfilter(2, "train", path, "--run-dir", tmp_path / "torch"))
    ok(hpcfilter(2, "train", path, "--run-dir", tmp_path / "horovod", "--set", "exchange.engine=horovod"))
    assert read_run(tmp_path / "torch")[2]["weights"] == read_run(tmp_path / "horovod")[2]["weights"]


@pytest.mark.parametrize("settings, message", [
    (["exchange.kind=adasum", "exchange.engine=torch"],
     'exchange.engine: got torch for kind = "adasum", which Horovod alone has'),
    (["exchange.engine=torch", "exchange.backend=nccl"], "exchange.backend: "),
    (["exchange.compression=bf16", "exchange.engine=horovod"],
     "exchange.compression: got bf16, which Horovod lacks"),
    (["exchange.engine=mpi"], "exchange.engine: "),
])
def test_engines_that_cannot_be(tmp_path, digits, config, hpcfilter, settings, message):
    more = [word for text in settings for word in ("--set", text)]
    done = hpcfilter(2, "train", config(digits), "--run-dir", tmp_path / "run", *more)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("hpcfilter: ") == 1, done
    assert not (tmp_path / "run").exists()


def test_what_horovod_lacks_makes_auto_take_torch(tmp_path, digits, config, hpcfilter):
    for setting in ("exchange.compression=bf16", "exchange.backend=gloo"):
        run = tmp_path / setting
        path = config(digits, train={"epochs": 1})
        done = ok(hpcfilter(2, "train", path, "--run-dir", run, "--set", setting))
        key, value = setting.split("=")
        assert f"gradients: by torch: not Horovod: {key} = {value} is torch's" in done.stdout


def test_without_horovod_torch_carries_the_gradients_and_says_why(tmp_path, digits, config, hpcfilter,
                                                                   monkeypatch):
    (tmp_path / "none" / "horovod").mkdir(parents=True)
    (tmp_path / "none" / "horovod" / "__init__.py").write_text("raise ImportError('no Horovod here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "none"))
    path = config(digits)
    done = ok(cold(2, ["-m", "hpcfilter", "train", path, "--run-dir", tmp_path / "run"]))
    assert "gradients: by torch: not Horovod: it does not import (no Horovod here)" in done.stdout
    assert read_run(tmp_path / "run")[0]["engine"] == "torch"
    done = cold(2, ["-m", "hpcfilter", "train", path, "--run-dir", tmp_path / "other", "--set",
                    "exchange.engine=horovod"])
    assert done.returncode == 2
    assert done.stderr.count("hpcfilter: exchange.engine: got horovod, but it does not import "
                             "(no Horovod here); start it with") == 1
