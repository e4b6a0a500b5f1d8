"""The command line under real mpirun with Horovod, on 2 and 3 ranks."""

import numpy as np
import pytest
import torch
from commands import ok

from hpcfilter.data import read_table
from hpcfilter.study.report import read_run

KAKURENBO = {"policy": "kakurenbo", "fraction": 0.3, "tau": 0.2}


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_two_and_three_ranks_step_like_one(tmp_path, program, engine):
    for ranks in (1, 2, 3):
        ok(program(ranks, "one_step", tmp_path / f"{ranks}.npy", engine))
    one = np.load(tmp_path / "1.npy")
    for ranks in (2, 3):
        np.testing.assert_allclose(np.load(tmp_path / f"{ranks}.npy"), one, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def mlp_runs(tmp_path_factory, digits, hpcfilter):
    """The same run on 1, 2 and 3 ranks, of a net without batch statistics. Returns ranks -> run folder."""
    folder = tmp_path_factory.mktemp("mlp")
    text = f'''seed = 1
[data]
path = "{digits}"
augment = "shift"
[model]
name = "mlp"
[train]
epochs = 3
global_batch = 60
[schedule]
warmup_epochs = 0
[filter]
policy = "random"
fraction = 0.4
'''
    (folder / "run.toml").write_text(text)
    for ranks in (1, 2, 3):
        ok(hpcfilter(ranks, "train", folder / "run.toml", "--run-dir", folder / str(ranks)))
    return {ranks: folder / str(ranks) for ranks in (1, 2, 3)}


def test_batches_and_results_do_not_depend_on_the_number_of_ranks(mlp_runs):
    reference = read_run(mlp_runs[1])
    for ranks in (2, 3):
        run, epochs, end = read_run(mlp_runs[ranks])
        assert run["ranks"] == ranks and run["backend"] == "mpi" and run["versions"]["horovod"]
        for mine, other in zip(epochs, reference[1], strict=True):
            for key in ("selection", "batches", "steps", "kept", "passes"):
                assert mine[key] == other[key], key
            assert mine["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        assert end["accuracy"] == pytest.approx(reference[2]["accuracy"], abs=0.01)


def test_weights_do_not_depend_on_the_number_of_ranks(mlp_runs):
    """The gradient of 2 ranks x b/2 is that of 1 rank x b, through 3 epochs; what differs is the
    order of sums of floats."""
    one, *others = (torch.load(folder / "checkpoints" / "epoch-00002" / "model.pt",
                               weights_only=True)["model"] for folder in mlp_runs.values())
    for other in others:
        for name, weight in one.items():
            torch.testing.assert_close(other[name], weight, rtol=1e-3, atol=1e-4)


def test_observations_are_the_same_on_any_number_of_ranks(mlp_runs):
    name = "checkpoints/epoch-00002/scores.h5"
    one = read_table(mlp_runs[1] / name)[0]
    for ranks in (2, 3):
        columns = read_table(mlp_runs[ranks] / name)[0]
        assert np.array_equal(columns["seen"], one["seen"])
        np.testing.assert_allclose(columns["importance"], one["importance"], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("order", ["global", "shard"])
def test_fraction_zero_is_the_baseline_on_two_ranks(tmp_path, digits, config, hpcfilter, order):
    ends = []
    for number, policy in enumerate(({"policy": "none"}, {**KAKURENBO, "fraction": 0.0})):
        path = config(digits, data={"order": order}, filter=policy)
        ok(hpcfilter(2, "train", path, "--run-dir", tmp_path / f"r{number}"))
        ends.append(read_run(tmp_path / f"r{number}")[2]["weights"])
    assert ends[0] == ends[1]


def test_resume_on_two_ranks_and_on_others(tmp_path, digits, config, hpcfilter):
    import shutil

    tables = {"filter": KAKURENBO, "train": {"epochs": 4, "global_batch": 120}}
    path = config(digits, **tables, checkpoint={"keep": 9})
    ok(hpcfilter(2, "train", path, "--run-dir", tmp_path / "whole"))
    _, whole, end = read_run(tmp_path / "whole")
    for ranks in (1, 2, 3):
        shutil.copytree(tmp_path / "whole", tmp_path / str(ranks))
        for epoch in (2, 3):
            shutil.rmtree(tmp_path / str(ranks) / "checkpoints" / f"epoch-{epoch:05d}")
        done = ok(hpcfilter(ranks, "train", path, "--run-dir", tmp_path / str(ranks), "--resume"))
        assert "from epoch 2" in done.stdout
        _, epochs, resumed = read_run(tmp_path / str(ranks))
        assert (epochs[2]["selection"], epochs[2]["batches"]) == (whole[2]["selection"], whole[2]["batches"])
        if ranks == 2:
            assert resumed["weights"] == end["weights"]


def test_score_and_select_do_not_depend_on_the_number_of_ranks(tmp_path, digits, config, hpcfilter):
    ok(hpcfilter(2, "train", config(digits), "--run-dir", tmp_path / "run"))
    for ranks in (1, 2, 3):
        ok(hpcfilter(ranks, "score", tmp_path / "run", "-o", tmp_path / f"scores{ranks}.h5",
                     "--set", "score.name=el2n"))
        ok(hpcfilter(ranks, "select", tmp_path / "scores1.h5", "--fraction", "0.3",
                     "-o", tmp_path / f"selection{ranks}.h5"))
    one = read_table(tmp_path / "scores1.h5")[0]["importance"]
    keep = read_table(tmp_path / "selection1.h5")[0]["keep"]
    assert keep.sum() == 1438 - 431
    for ranks in (2, 3):
        np.testing.assert_allclose(read_table(tmp_path / f"scores{ranks}.h5")[0]["importance"],
                                   one, atol=1e-5)
        assert np.array_equal(read_table(tmp_path / f"selection{ranks}.h5")[0]["keep"], keep)
    path = config(digits, filter={"policy": "static", "selection": str(tmp_path / "selection2.h5")})
    ok(hpcfilter(3, "train", path, "--run-dir", tmp_path / "static"))
    assert read_run(tmp_path / "static")[1][0]["kept"] == keep.sum()


def test_rank_zero_alone_speaks(tmp_path, digits, config, hpcfilter):
    done = ok(hpcfilter(3, "train", config(digits), "--run-dir", tmp_path / "run"))
    assert done.stdout.count("epoch   0") == 1 and done.stdout.count("digits.h5") == 1


def test_shard_order_trains_on_what_each_rank_owns(tmp_path, digits, config, hpcfilter):
    path = config(digits, data={"order": "shard"}, filter=KAKURENBO, train={"epochs": 4})
    ok(hpcfilter(3, "train", path, "--run-dir", tmp_path / "run"))
    _, epochs, _ = read_run(tmp_path / "run")
    assert epochs[-1]["hidden"] > 0 and epochs[-1]["imbalance"] > 1 and epochs[-1]["accuracy"] > 0.5


def test_guesses_that_differ_are_refused_where_a_wrong_message_would_hang(program):
    """In MPI a rank that takes another collective than the others waits for ever, or gets
    their bytes for its own."""
    told = [line.split(" | ") for line in ok(program(2, "other_guesses")).stdout.splitlines()]
    differ = "lowest: start: got rank 0: {}; rank 1: {}; expected the same on all ranks"
    expected = [differ.format(0.5, 0.25), differ.format("none", 0.5), differ.format(0.5, "none"),
                "50000", "50000"]
    assert told == [[text] * 2 for text in expected]
