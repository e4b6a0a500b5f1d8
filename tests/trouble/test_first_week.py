"""What goes wrong in a first week, and was once done in silence or with a wrong hint: each
is one line now."""

import json

import numpy as np
import pytest
import torch

from hpcfilter.base.errors import InputError
from hpcfilter.cli import main
from hpcfilter.comm.threads import run as play
from hpcfilter.filter import Filter
from hpcfilter.select.scores import Scores
from hpcfilter.select.scores.score import Score
from hpcfilter.train.config import load


@pytest.fixture
def said(capsys, tmp_path, monkeypatch):
    """said(*words) -> (exit code, error output); the current folder is one of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def run(*words):
        capsys.readouterr()
        return main([str(word) for word in words]), capsys.readouterr().err

    return run


OWN = {
    "data.augment=mine:broken": ("def broken(images, labels, index, seed, epoch):\n"
                                 "    return images * float('nan'), labels", "data.augment: gives values"),
    'model={factory="mine:net"}': ("from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n"
                                   "        super().__init__(); self.layer = nn.Linear(64, 10)\n"
                                   "    def forward(self, x):\n        return self.layer(x.flatten(1)) / 0\n"
                                   "def net(inputs, outputs): return Net()", "model: gives values"),
    "loss.name=mine:loss": ("from torch.nn.functional import cross_entropy\ndef loss():\n    return lambda "
                            "output, target: cross_entropy(output, target, reduction='none') * float('nan')",
                            "loss.name: gives values"),
}


@pytest.mark.parametrize("setting", OWN)
def test_values_that_are_not_finite_are_known_before_the_run(said, digits, config, tmp_path, setting):
    code, message = OWN[setting]
    (tmp_path / "mine.py").write_text(code)
    path = config(digits, model={"name": None, "width": None} if "model" in setting else {})
    done, line = said("train", path, "--run-dir", "run", "--set", setting)
    assert (done == 2 and message in line and "that are not finite, before anything is trained" in line
            and line.count("\n") == 1)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_an_output_that_something_else_has_made_is_left_alone(said, trained, digits, tmp_path):
    (tmp_path / "run.toml").write_text("seed = 1\n")
    (tmp_path / "data.h5").write_bytes(digits.read_bytes())
    for name in ("run.toml", "data.h5"):
        before = (tmp_path / name).read_bytes()
        done, line = said("score", trained("a"), "-o", name)
        assert (done == 2 and f"{name}: is there already and is no table of hpcfilter" in line
                and (tmp_path / name).read_bytes() == before)
    assert (said("score", trained("a"), "-o", "scores.h5")[0] == 0
            and said("score", trained("a"), "-o", "scores.h5")[0] == 0)
    assert said("report", trained("a"), "--text", "-o", "data.h5")[0] == 2


def test_a_policys_file_is_named_so_that_it_is_found_from_anywhere(said, digits, config, trained, tmp_path):
    assert (said("score", trained("a"), "-o", "scores.h5")[0] == 0
            and said("select", "scores.h5", "--fraction", "0.3")[0] == 0)
    path = config(digits, filter={"policy": "static", "selection": "selection.h5"}, train={"epochs": 1})
    assert said("train", path, "--run-dir", "run")[0] == 0
    assert load(tmp_path / "run" / "config.toml").filter.selection == str(tmp_path / "selection.h5")


@pytest.mark.parametrize("row", [b"", b"{bad", b"\xff", b"3", b"{}"])
def test_a_damaged_record_is_one_line(said, digits, config, tmp_path, row):
    path = config(digits, train={"epochs": 1})
    assert said("train", path, "--run-dir", "run")[0] == 0
    record = tmp_path / "run" / "metrics.jsonl"
    rows = record.read_bytes().split(b"\n")
    record.write_bytes(b"\n".join([rows[0], row, *rows[1:]]))
    done, line = said("train", path, "--run-dir", "run", "--resume", "--set", "train.epochs=2")
    assert (done == 2 and "metrics.jsonl, line 2: is no row of a run, the file is damaged" in line
            and line.count("\n") == 1)
    record.write_bytes(b"\n".join(rows))
    assert said("train", path, "--run-dir", "run", "--resume", "--set", "train.epochs=2")[0] == 0
    assert [json.loads(text)["epoch"]
            for text in record.read_text().splitlines() if json.loads(text)["kind"] == "epoch"] == [0, 1]


@pytest.mark.parametrize("settings, message", [
    (["schedule.name=step", "schedule.milestones=[30, 60]"], "schedule.milestones.0: expected less than 1"),
    (["data.augment=shift", "data.shift=8"],
     "data.shift: got 8 pixels for images of height 8, expected fewer than that"),
    (["loss.name=mse"], 'loss.name: got "mse", which is of numbers, but'),
])
def test_settings_that_can_only_be_mistakes(said, digits, config, settings, message):
    done, line = said("train", config(digits), "--run-dir", "run",
                      *(word for setting in settings for word in ("--set", setting)))
    assert done == 2 and message in line


def test_an_empty_variable_is_no_folder(said, digits, config, monkeypatch, tmp_path):
    monkeypatch.setenv("NOTHING", "")
    done, line = said("train", config(digits), "--run-dir=$NOTHING")
    assert done == 2 and "is a variable in it empty?" in line and not (tmp_path / "metrics.jsonl").exists()


def test_parameters_that_an_optimiser_leaves_out_are_said(digits, config, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    code = ("import torch\ndef some(model, train):\n"
            "    return torch.optim.SGD(list(model.parameters())[:3], lr=0.1)")
    (tmp_path / "mine.py").write_text(code)
    assert main(["train", str(config(digits, train={"epochs": 1}, optim={"name": "mine:some"})),
                 "--run-dir", str(tmp_path / "run")]) == 0
    assert ("optim.name: has 3 of the 11 parameters that can be trained; "
            "the others stay as they are" in capsys.readouterr().out)


@pytest.mark.parametrize("remembered, message", [
    (lambda value: value[:1], r"float32 of shape \(1,\)"), (lambda value: value.mean(), r"of shape \(\)"),
    (lambda value: None, "object of shape"), (lambda value: value * 1j, "complex"),
])
def test_a_score_of_ones_own_remembers_one_number_per_sample(remembered, message):
    class Own(Score):
        def remember(self, memory, value):
            return remembered(value)

    scores = Scores(range(10), 10, Own())
    with pytest.raises(InputError,
                       match=f"remember gives .*{message}.*expected one number per sample, \\(4,\\)"):
        scores.update(np.arange(4), {"value": np.ones(4, np.float32)})


# ---- in scripts

@pytest.mark.parametrize("make, message", [
    (lambda rank: dict(policy="static", given={"keep": np.arange(8) % 2 == rank}),
     r"keep \(checksum\): got .* expected the same on all ranks"),
    (lambda rank: dict(policy="infobatch", epochs=3, labels=(np.arange(8) + rank) % 3),
     r"labels \(checksum\): got"),
])
def test_masks_and_labels_that_differ_between_ranks_are_refused(make, message):
    def script(comm):
        arguments = make(comm.rank)
        with pytest.raises(InputError, match=message):
            Filter(8, arguments.pop("policy"), comm=comm, **arguments)

    play(2, script)


@pytest.mark.parametrize("labels, message", [
    (np.array(["cat"] * 8), r"got <U3 of shape \(8,\), expected an integer from 0 for each sample; words: "
     r"numpy.unique"), (np.zeros((8, 3), int), r"got int64 of shape \(8, 3\)"), (np.zeros(8), "got float64"),
    (np.arange(8) - 1, "got int64 from -1"),
])
def test_labels_are_integers_from_0(labels, message):
    with pytest.raises(InputError, match=f"labels: {message}"):
        Filter(8, "infobatch", epochs=3, labels=labels)


def test_a_rate_that_a_policy_sets_itself_is_not_ignored(said, digits, config, tmp_path):
    (tmp_path / "mine.py").write_text("import numpy as np\nfrom hpcfilter.select.policies import Selection\n"
                                      "def policy(scores, epoch, seed, comm):\n    return "
                                      "Selection(np.ones(len(scores.owned), bool), lr_scale=2.0)\n")
    done, line = said("train", config(digits, filter={"policy": "mine:policy"}), "--run-dir", "run")
    assert (done == 2 and "sets lr_scale = 2.0, which would be ignored: it is made from lr_rule" in line
            and "mine.py, line 3" in line)


@pytest.mark.parametrize("epoch, message", [(-1, "got -1"), (1.0, "got float 1.0"), ("1", "got str '1'")])
def test_an_epoch_is_a_whole_number(epoch, message):
    of = Filter(8, "none")
    with pytest.raises(InputError, match=f"set_epoch: {message}, expected a whole number from 0 on"):
        of.set_epoch(epoch)


def test_a_script_that_never_calls_loss_is_told_so():
    of, losses = Filter(8, "infobatch", epochs=5), torch.ones(8)
    list(of)
    with pytest.warns(RuntimeWarning, match="no batch came to `loss`; call it in the place of the mean"):
        of.set_epoch(1)
    index = list(of)
    of.loss(losses[: len(index)], np.array(index))
    of.set_epoch(2)
    list(of)
    of.set_epoch(3)
    list(of)
    with pytest.raises(InputError, match="epoch 3 is over, and no batch came to `loss`"):
        of.set_epoch(4)
