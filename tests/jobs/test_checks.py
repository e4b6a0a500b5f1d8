"""What `train` refuses `jobs check` refuses too, in the same words and before the wait in the queue; what
cannot be known there it says."""

import sys
from pathlib import Path

import numpy as np
import pytest

from hpcfilter.cli import main
from hpcfilter.data import write_table
from hpcfilter.pack.pack import pack

CHECK = ["--machine", "slurm-cpu", "--run-dir", "run", "--set", "job.ranks_per_node=1",
         "--set", "job.cpus_per_rank=1"]


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """check(config, *words) -> (exit code, what `jobs check` prints, what it says of an error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.syspath_prepend(tmp_path)

    def run(config, *words):
        capsys.readouterr()
        code = main(["jobs", "check", str(config), *CHECK, *words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def both(check, capsys):
    """both(config, *words) -> the line by which both refuse."""
    def refuse(config, *words, train=()):
        code, _, checked = check(config, *words)
        assert main(["train", str(config), "--run-dir", "run", *words, *train]) == code == 2
        trained = capsys.readouterr().err
        assert trained == checked and trained.count("\n") == 1, (trained, checked)
        return trained

    return refuse


MLP = {"name": "mlp", "width": None}
REFUSED = [  # data set, tables of the run config -> what both say, behind the place
           ("digits", {"model": {"name": "vgg"}},
            ", line 5: model.name: unknown 'vgg'; known: autoencoder, cnn, mlp, resnet18"),
           ("digits", {"model": {"depth": 3}}, "model.depth: unknown key; known: width (of cnn)"),
           ("digits", {"model": {"width": 0}}, "model.width: "),
           ("digits", {"model": {"factory": "cnn"}},
            "model.factory: got 'cnn', expected package.module:name"),
           ("digits", {"model": {"factory": "nowhere_at_all:net"}},
            "model.factory: cannot import 'nowhere_at_all:net': ModuleNotFoundError"),
           ("digits", {"model": {"factory": "custom:nothing"}},
            "model.factory: cannot import 'custom:nothing': AttributeError"),
           ("digits", {"model": {"factory": "custom:perceptron", "name": None, "width": None, "hiden": 3}},
            "model.hiden: unknown key; known: hidden"),
           ("regression", {"model": {"name": "cnn"}}, "model: cnn cannot be made for inputs (6,) and 2 "
            "outputs: expected images (channels, height, width)"),
           ("regression", {"model": {"name": "resnet18"}},
            "model: resnet18 cannot be made for inputs (6,) and 2 outputs: expected images"),
           ("digits", {"model": {"name": "autoencoder"}},
            "loss.name: cross_entropy takes 10 values per sample, and the model autoencoder gives 64"),
           ("digits", {"loss": {"name": "reconstruction"}},
            "loss.name: reconstruction takes 64 values per sample, and the model cnn gives 1"),
           ("digits", {"filter": {"policy": "kakurembo"}},
            "filter.policy: unknown 'kakurembo'; known: bls, ccs,"),
           ("digits", {"filter": {"policy": "random", "fraction": 1.5}}, ", line 9: filter.fraction: "),
           ("digits",
            {"filter": {"policy": "random", "tau": 0.5}}, "filter.tau: unknown key; known: fraction"),
           ("digits",
            {"filter": {"policy": "custom:nothing"}}, "filter.policy: cannot import 'custom:nothing'"),
           ("digits", {"filter": {"policy": "custom:named_like_a_guard"}},
            "filter.policy: custom:named_like_a_guard has the parameters noise"),
           ("digits", {"filter": {"policy": "forget", "after": 5}},
            "filter.after: has become phases, at the beginning of which forget cuts: [[phase]]"),
           ("digits", {"filter": {"policy": "forget"}},
            "filter.policy: forget cuts once, by what earlier epochs have shown; expected"),
           ("digits", {"filter": {"policy": "rho"}},
            "filter.irreducible: missing; expected a table made by hpcfilter, with the column loss"),
           ("digits", {"filter": {"policy": "static", "selection": "gone.h5"}}, "gone.h5: cannot read"),
           ("digits", {"filter": {"policy": "kakurenbo", "noise": 0.1}, "score": {"name": "batch_loss"}},
            "score.name: batch_loss is taken while a network"),
           ("regression", {"model": MLP, "filter": {"policy": "kakurenbo"}},
            "filter.policy: kakurenbo needs class labels, got"),
           ("regression", {"model": MLP, "filter": {"policy": "random", "class_floor": 0.1}},
            "filter.class_floor: needs class labels, got"),
           ("digits",
            {"score": {"name": "grant"}}, "score.name: unknown 'grant'; known: aum, batch_loss, centroid"),
           ("digits", {"score": {"name": "ema", "alpha": 2}}, "score.alpha: "),
           ("digits", {"score": {"name": "centroid"}},
            "score.name: centroid is taken of a finished network, by `hpcfilter score`"),
           ("regression", {"model": MLP, "score": {"name": "el2n"}},
            "score.name: el2n needs class labels, got"),
           ("digits",
            {"data": {"augment": "blur"}}, "data.augment: unknown 'blur'; known: none, resized_crop, "),
           ("regression", {"model": MLP, "data": {"augment": "shift"}},
            "data.augment: 'shift' is for images with class labels"),
           ("digits", {"loss": {"name": "hinge"}},
            "loss.name: unknown 'hinge'; known: cross_entropy, mse, reconstruction"),
           ("digits", {"loss": {"name": "custom:nothing"}}, "loss.name: cannot import 'custom:nothing'"),
           ("regression", {"model": MLP, "loss": {"name": "cross_entropy"}},
            "loss.name: cross_entropy needs class labels; give mse or"),
           ("regression", {"model": MLP, "loss": {"label_smoothing": 0.1}},
            "loss.label_smoothing: is of the loss cross_entropy; this run"),
           ("digits", {"optim": {"name": "custom:nothing"}}, "optim.name: cannot import 'custom:nothing'"),
           ("digits", {"optim": {"name": "sdg"}}, "optim.name: "),
           ("digits", {"train": {"ramp_batch": 500, "ramp_epochs": 2}},
            "train.ramp_batch: got 500, more than the global batch of 120"),
           ("digits", {"record": {"noise_scale": True}},
            "record.noise_scale: is measured between ranks, and needs two or more"),]


@pytest.mark.parametrize("data, tables, message", REFUSED,
                         ids=[message.strip(", ")[:60] for *_, message in REFUSED])
def test_both_refuse_in_the_same_words(data, tables, message, both, config, request, tmp_path):
    assert message in both(config(request.getfixturevalue(data), **tables))
    assert not (tmp_path / "run").exists()


def test_the_data_file(both, check, config, digits, tmp_path):
    (tmp_path / "short.h5").write_bytes(digits.read_bytes()[:-5000])
    np.savez(tmp_path / "raw.npz", x=np.zeros(3))
    write_table(tmp_path / "table.h5", 3, {"x": (np.float32, [np.ones(3, np.float32)])}, {})
    for name in ("short.h5", "raw.npz", "table.h5"):
        assert name in both(config(tmp_path / name))
    for name in ("gone.h5", "."):
        assert check(config(tmp_path / name))[0] == main(["train", str(config(tmp_path / name)),
                                                          "--run-dir", "run"]) == 2


def selection(path, rows=1438, data="0123456789abcdef", **columns):
    table = {"keep": (np.uint8, [np.ones(rows, np.uint8)]),
             "weight": (np.float32, [np.ones(rows, np.float32)]), **columns}
    write_table(path, rows, {name: column for name, column in table.items() if column},
                {"data": data, "kept": rows})


def test_the_file_of_a_policy(both, check, config, digits, tmp_path):
    from hpcfilter.data import open_packed

    path, own = config(digits, filter={"policy": "static", "selection": "s.h5"}), open_packed(digits).digest
    for table, message in (({}, "got a table of data set 0123456789abcdef with 1438 samples, expected"),
                           ({"rows": 7, "data": own}, "with 7 samples, expected"),
                           ({"weight": None, "data": own},
                            "s.h5: got the columns keep, expected keep and weight")):
        selection(tmp_path / "s.h5", **table)
        assert message in both(path)
    selection(tmp_path / "s.h5", data=own)
    assert check(path)[0] == 0
    (tmp_path / "s.h5").write_bytes((tmp_path / "s.h5").read_bytes()[:-9])
    assert "s.h5: its " in both(path)


def test_more_ranks_than_samples(check, config, digits):
    """The words are those of Dataset.check_ranks, which tests/trouble/test_bad_input.py has from
    the ranks themselves."""
    words = "--set", "job.ranks_per_node=32", "--nodes"
    assert check(config(digits), *words, "44")[0] == 0
    for order in ("global", "shard"):
        code, _, error = check(config(digits, data={"order": order}), *words, "45")
        assert (code == 2 and error == f"hpcfilter: {digits}: got 1440 ranks for 1438 training samples, "
                "expected at most one rank per sample\n")
    code, _, error = check(config(digits), *words, "1,2,45,64")
    assert code == 2 and error.startswith(f"hpcfilter: --nodes 45: {digits}: "
                                          "got 1440 ranks for 1438 training samples")
    code, out, _ = check(config(digits), *words, "44")
    assert (code == 0
            and "global batch 120, 0.0852273 samples per rank and step (1288 of the ranks have none)" in out)


@pytest.mark.parametrize("words, message", [
    (["train.device=cuda"],
     "train.device: got cuda, but the ranks of this job see no GPU; expected job.gpus_per_rank = 1"),
    (["exchange.kind=adasum", "job.ranks_per_node=3"],
     "exchange.kind: adasum goes in pairs of pairs and needs 1, 2, 4, 8, ... ranks, got 3"),
])
def test_what_comes_of_the_layout(check, config, digits, words, message):
    code, _, error = check(config(digits), *(part for word in words for part in ("--set", word)))
    assert code == 2 and f"command line: {message}" in error


def test_what_resuming_would_refuse(both, check, config, digits, regression):
    path = config(digits, train={"epochs": 1})
    assert main(["train", str(path), "--run-dir", "run"]) == 0
    Path("run/DONE").unlink()
    assert check(path)[0] == 0
    assert "run/checkpoints/epoch-00000: seed: the run began with 3, got 9" in both(path, "--set", "seed=9",
                                                                                    train=["--resume"])
    assert "train.global_batch: the run began with 120, got 60" in both(path,
                                                                        "--set", "train.global_batch=60",
                                                                        train=["--resume"])
    assert "it belongs to another data" in check(config(regression, model=MLP))[2]
    Path("run/checkpoints/epoch-00000/stamp.json").write_text("{")
    assert check(path)[0] == 0, "whether it is whole the run will see"


def test_a_finished_run_and_a_folder_that_cannot_be(check, config, digits):
    path = config(digits)
    Path("file").write_text("")
    assert "file/run: cannot be the run folder: Not a directory" in check(path, "--run-dir", "file/run")[2]
    Path("run").mkdir()
    Path("run/DONE").touch()
    assert "run: the run is finished; to train it further, raise train.epochs" in check(path)[2]
    Path("run/nodes-1").mkdir()
    Path("run/nodes-1/DONE").touch()
    assert check(path, "--nodes", "1,2")[0] == 0, "of a study it is left out"


def test_code_of_the_users_own_where_torch_is_not(check, config, digits, tmp_path, monkeypatch):
    (tmp_path / "net_of_mine.py").write_text("import torch\n"
                                             "def net(inputs, outputs, *, width: int = 3): ...\n")
    (tmp_path / "wants_a_gpu.py").write_text("assert False, 'no GPU'\n")
    path = config(digits, model={"name": None, "width": None, "factory": "net_of_mine:net"})
    code, out, error = check(path, "--set", "model.width=x")
    assert code == 2 and "model.width" in error, "where torch is, the keys are checked"
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "net_of_mine")
    code, out, _ = check(path)
    assert code == 0 and "not checked here: model.factory: " in out and "torch" in out
    code, out, _ = check(path, "--nodes", "1,2", "--set", "optim.name=wants_a_gpu:make")
    assert code == 0 and out.count("not checked here: optim.name") == 2
    assert check(path,
                 "--set", "filter.policy=kakurembo")[0] == 2, "what needs no torch is checked all the same"


def test_code_of_the_users_own_that_another_environment_has(check, config, digits):
    path = config(digits, model={"name": None, "width": None, "factory": "somewhere_else:net"})
    assert check(path)[0] == 2
    code, out, _ = check(path, "--set", "job.venv=/their/venv")
    assert code == 0 and "not checked here: model.factory: No module named 'somewhere_else'" in out


def test_data_in_an_archive(check, config, digits, tmp_path):
    (tmp_path / "data.tar").touch()
    words = ("--set", "job.stage.method=tar", "--set", "job.stage.source=data.tar",
             "--set", "job.stage.folder=/tmp")
    code, out, _ = check(config("in/the/archive.h5"), *words)
    assert code == 0 and "not checked here: data.path: it is in data.tar" in out
    for setting, message in (("model.hidden=3", "model.hidden: unknown key"),
                             ("filter.tau=1", "filter.tau: unknown key"),
                             ("score.name=x", "score.name: unknown 'x'"),
                             ("data.augment=blur", "data.augment: unknown 'blur'"),
                             ("loss.name=hinge", "loss.name: unknown 'hinge'")):
        code, _, error = check(config("in/the/archive.h5"), *words, "--set", setting)
        assert code == 2 and message in error


def test_the_files_of_a_job_that_works_elsewhere(check, config, digits, tmp_path):
    """A relative path in [filter] is one of the job's own folder."""
    from hpcfilter.data import open_packed

    (tmp_path / "work").mkdir()
    path, words = (config(digits, filter={"policy": "static", "selection": "s.h5"}),
                   ("--set", f"job.workdir={tmp_path}/work"))
    selection(tmp_path / "s.h5", data=open_packed(digits).digest)
    assert check(path)[0] == 0 and "s.h5: cannot read" in check(path, *words)[2]
    (tmp_path / "s.h5").rename(tmp_path / "work" / "s.h5")
    assert check(path, *words)[0] == 0


def test_rows_without_targets_are_for_a_reconstruction(both, config, tmp_path):
    np.savez(tmp_path / "s.npz", x=np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8))
    pack(tmp_path / "s.npz", tmp_path / "rows.h5")
    assert "has rows without targets; expected \"reconstruction\"" in both(config(tmp_path / "rows.h5",
                                                                                  train={"global_batch": 8}))
    fits = config(tmp_path / "rows.h5", model={"name": "autoencoder", "width": 2},
                  train={"global_batch": 8, "epochs": 1}, loss={"name": "reconstruction"})
    assert main(["train", str(fits), "--run-dir", str(tmp_path / "run")]) == 0


def test_weights_to_begin_with_must_be_there(both, digits, config, tmp_path):
    """The run folder of [model] start, and of a phase."""
    nowhere = str(tmp_path / "nowhere")
    wanted = f"{nowhere}: no checkpoints there of a finished epoch; expected a run folder"
    assert f"model.start: {wanted}" in both(config(digits, model={"start": nowhere}))
    assert f"phase.1.weights: {wanted}" in both(config(digits, phase=[{"epochs": 1},
                                                                      {"epochs": 1, "weights": nowhere}]))
