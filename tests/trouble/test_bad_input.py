"""Bad input, on real ranks: one clear line, exit code 2, no rank left hanging, nothing overwritten."""

import json

import numpy as np
import pytest

from hpcfilter.cli import main
from hpcfilter.data import open_packed, read_table, write_table


def refused(done, message):
    """Exactly one line of ours, with the message in it; the rest is the launcher's."""
    assert done.returncode == 2, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    lines = [line for line in done.stderr.splitlines() if line.startswith("hpcfilter:")]
    assert len(lines) == 1 and message in lines[0], done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def refused_here(capsys):
    """refused_here(message, *words): the same of the command line in this process, where
    nothing else may be said."""

    def check(message, *words):
        capsys.readouterr()  # what the fixtures have said
        code = main([str(word) for word in words])
        error = capsys.readouterr().err
        assert (code == 2 and error.startswith("hpcfilter:") and error.count("\n") == 1
                and message in error), error

    return check


@pytest.fixture
def truncated(tmp_path, digits):
    path = tmp_path / "short.h5"
    path.write_bytes(digits.read_bytes()[:-5000])
    return path


@pytest.fixture
def corrupt(tmp_path, digits):
    data = bytearray(digits.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64 * [255])
    (tmp_path / "corrupt.h5").write_bytes(data)
    return tmp_path / "corrupt.h5"


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_missing_truncated_corrupt_data(tmp_path, config, hpcfilter, refused_here, truncated, corrupt, ranks):
    for data, message in ((tmp_path / "nowhere.h5", "nowhere.h5: cannot read"), (truncated, "short.h5"),
                          (corrupt, "corrupt.h5")):
        words = "train", config(data), "--run-dir", tmp_path / "run"
        if ranks == 1:
            refused_here(message, *words)
        else:
            refused(hpcfilter(ranks, *words), message)
    assert not (tmp_path / "run").exists()


def test_labels_out_of_range_where_only_one_rank_sees_them(tmp_path, digits, config, hpcfilter):
    path = tmp_path / "labels.h5"
    path.write_bytes(digits.read_bytes())
    labels = open_packed(path).train.labels
    np.memmap(path, labels.dtype, "r+", labels.offset, labels.shape)[1437] = 12
    done = hpcfilter(2, "train", config(path, data={"verify": False}), "--run-dir", tmp_path / "run")
    refused(done, "train/labels: label 12 in row 1437, expected 0 to 9 (10 classes)")
    refused(hpcfilter(2, "train", config(path), "--run-dir", tmp_path / "run"),
            "train/labels: rows 0 to 1437")


@pytest.mark.parametrize("tables, message", [
    ({"filter": {"policy": "kakurembo"}},
     "filter.policy: unknown 'kakurembo'; known: bls, ccs, dyn_unc, es, forget, infobatch, kakurenbo, none"),
    ({"filter": {"policy": "random", "fraction": 1.5}}, "filter.fraction: expected less than 1, got 1.5"),
    ({"filter": {"policy": "random", "tau": 0.5}}, "filter.tau: unknown key; known: fraction"),
    ({"train": {"lerning": 1}}, "train.lerning: unknown key; known: epochs"),
    ({"model": {"name": "vgg"}}, "model.name: unknown 'vgg'; known: autoencoder, cnn, mlp, resnet18"),
    ({"model": {"depth": 3}}, "model.depth: unknown key; known: width (of cnn)"),
    ({"score": {"name": "grant"}}, "score.name: unknown 'grant'; known: aum, batch_loss, centroid"),
    ({"score": {"name": "centroid"}},
     "score.name: centroid is taken of a finished network, by `hpcfilter score`"),
    ({"score": {"name": "ema", "alpha": 2}}, "score.alpha: expected less than 1, got 2"),
    ({"filter": {"policy": "forget", "after": 5}},
     "filter.after: has become phases, at the beginning of which forget cuts: [[phase]]"),
    ({"filter": {"policy": "forget"}},
     "filter.policy: forget cuts once, by what earlier epochs have shown; expected a phase before its own"),
    ({"filter": {"policy": "rho"}},
     "filter.irreducible: missing; expected a table made by hpcfilter, with the column loss"),
    ({"filter": {"policy": "static", "selection": "gone.h5"}}, "gone.h5: cannot read"),
    ({"data": {"augment": "blur"}}, "data.augment: unknown 'blur'; known: none, resized_crop, "),
    ({"loss": {"name": "custom:nothing"}}, "loss.name: cannot import 'custom:nothing'"),
    ({"model": {"factory": "cnn"}}, "model.factory: got 'cnn', expected package.module:name"),
    ({"model": {"factory": "own/nets.py:net"}},
     "got 'own/nets.py:net', expected the name of a module instead of its file, such as own.nets:net"),
])
def test_mistakes_in_the_config(tmp_path, digits, config, capsys, tables, message):
    path = config(digits, **tables)
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_cuda_where_there_is_none(tmp_path, digits, config, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert main(["train", str(config(digits, train={"device": "cuda"})),
                 "--run-dir", str(tmp_path / "run")]) == 2
    assert "train.device: got cuda, but torch" in capsys.readouterr().err


def test_what_needs_classes_says_so(tmp_path, regression, config, capsys):
    model = {"name": "mlp", "width": None}
    for tables, message in (
            ({"filter": {"policy": "kakurenbo"}}, "policies without: none, random, static"),
            ({"score": {"name": "el2n"}}, "score.name: el2n needs class labels"),
            ({"loss": {"name": "cross_entropy"}}, "loss.name: cross_entropy needs class labels"),
            ({"data": {"augment": "shift"}}, "data.augment: 'shift' is for images with class labels"),
            ({"model": {"name": "cnn"}}, "model: cnn cannot be made for inputs (6,)"),
            ({"loss": {"name": "custom:mean_over_batch"}},
             "loss.name: got values of shape (), expected one per sample"),
            ({"model": {"factory": "custom:wrong_shape", "name": None, "width": None}},
             "model: fails on samples of shape (6,)")):
        path = config(regression, **{"model": model, **tables})
        assert main(["train", str(path), "--run-dir", str(tmp_path / "run")]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


def test_more_ranks_than_samples(tmp_path, config, hpcfilter):
    from hpcfilter.pack.pack import pack

    np.savez(tmp_path / "s.npz", x=np.zeros((4, 3), np.float32), y=np.array([0, 1, 0, 1]))
    pack(tmp_path / "s.npz", tmp_path / "p.h5", test_fraction=0.5)
    path = config(tmp_path / "p.h5", model={"name": "mlp", "width": None})
    refused(hpcfilter(3, "train", path, "--run-dir", tmp_path / "run"), "got 3 ranks for 2 training samples")
    assert hpcfilter(2, "train", path, "--run-dir", tmp_path / "run").returncode == 0
    refused(hpcfilter(3, "score", tmp_path / "run"), "got 3 ranks for 2 training samples")


def test_a_run_folder_is_not_overwritten(tmp_path, digits, config, hpcfilter):
    path = config(digits, train={"epochs": 1})
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run")]) == 0
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    refused(hpcfilter(2, "train", path, "--run-dir", tmp_path / "run"), "holds a run already; give --resume")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_checkpoint_of_another_model_data_or_seed(tmp_path, digits, regression, config, hpcfilter,
                                                    refused_here):
    from hpcfilter.pack.pack import pack

    pack("digits", tmp_path / "other.h5", seed=5)
    path = config(digits, train={"epochs": 1})
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run")]) == 0
    resolved = (tmp_path / "run" / "config.toml").read_bytes()
    refused(hpcfilter(2, "train", path, "--run-dir", tmp_path / "run", "--resume", "--set", "model.width=6"),
            "it belongs to another model")
    refused_here("seed: the run began with 3, got 9", "train", path, "--run-dir", tmp_path / "run",
                 "--resume", "--set", "seed=9")
    refused(hpcfilter(2, "train", path, "--run-dir", tmp_path / "run", "--resume", "--set",
                      "optim.weight_decay=0.1"), "optim.weight_decay: the run began with 0.0005, got 0.1")
    other = config(regression, model={"name": "mlp", "width": None})
    refused_here("it belongs to another", "train", other, "--run-dir", tmp_path / "run", "--resume")
    refused_here("got a checkpoint of data", "score", tmp_path / "run",
                 "--set", f"data.path={tmp_path / 'other.h5'}")
    refused(hpcfilter(2, "score", tmp_path / "run", "--set", "model.width=6"), "it belongs to another model")
    refused_here("no checkpoint of epoch 7; there are: 0", "score", tmp_path / "run", "--epoch", "7")
    refused_here("no checkpoints there", "score", tmp_path / "nothing")
    assert (tmp_path / "run" / "config.toml").read_bytes() == resolved


def test_a_selection_of_another_data_set(tmp_path, digits, config, hpcfilter):
    columns = {"keep": (np.uint8, [np.ones(1438, np.uint8)]),
               "weight": (np.float32, [np.ones(1438, np.float32)])}
    write_table(tmp_path / "s.h5", 1438, columns, {"data": "0123456789abcdef", "kept": 1438})
    path = config(digits, filter={"policy": "static", "selection": str(tmp_path / "s.h5")})
    refused(hpcfilter(2, "train", path, "--run-dir", tmp_path / "run"),
            "got a table of data set 0123456789abcdef with 1438 samples, expected")
    assert read_table(tmp_path / "s.h5")[2] == 1438


def test_select_refuses_bad_fractions_and_tables(tmp_path, digits, capsys):
    write_table(tmp_path / "s.h5", 3, {"x": (np.float32, [np.ones(3, np.float32)])}, {})
    for words, message in ((["s.h5", "--fraction", "1"], "fraction: got 1.0, expected within [0, 1)"),
                           (["s.h5", "--fraction", "-0.5"], "fraction: got -0.5"),
                           (["s.h5", "--fraction", "0.5"],
                            "not a score table: got the columns x, expected importance"),
                           (["gone.h5", "--fraction", "0.5"], "gone.h5: cannot read")):
        assert main(["select", str(tmp_path / words[0]), *words[1:]]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.h5"]


def test_the_command_line_itself(capsys):
    for words, message in ((["trian"], "invalid choice: 'trian'"), (["train", "x.toml"], "--run-dir"),
                           (["pack", "digits", "-o", "x", "--size", "big"],
                            "got 'big', expected HEIGHTxWIDTH")):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_report_refuses_what_is_no_run(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"kind": "run"}) + "\n")
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no finished epoch yet" in capsys.readouterr().err
