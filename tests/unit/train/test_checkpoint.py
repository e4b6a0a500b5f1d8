"""Generations: whole or not at all, checked byte for byte, the right ones kept; and what is in them."""

import json
import math
import os
import shutil
import subprocess

import numpy as np
import pytest
import torch

from hpcfilter.base.errors import Failure, InputError
from hpcfilter.comm import SerialComm
from hpcfilter.select.policies import Selection
from hpcfilter.select.seen import Seen
from hpcfilter.train import checkpoint
from hpcfilter.train.checkpoint import Interval, young_daly
from hpcfilter.train.checkpoint.generation import FORMAT, writing


def make(folder, epoch, step=None, keep=9, text="weights"):
    with writing(folder, epoch, step, keep) as temporary:
        (temporary / "model.pt").write_text(text)
        (temporary / "stamp.json").write_text(json.dumps({"format": FORMAT, "epoch": epoch, "step": step}))


def names(folder):
    return [path.name for path in checkpoint.generations(folder)]


def test_generations_are_in_the_order_of_training(tmp_path):
    for epoch, step in ((2, 3), (2, 20), (2, None), (10, None), (100000, None)):
        make(tmp_path, epoch, step)
    assert names(tmp_path) == ["epoch-00002-step-000003", "epoch-00002-step-000020", "epoch-00002",
                               "epoch-00010", "epoch-100000"]
    assert (checkpoint.position(tmp_path / "epoch-00002") == (2, math.inf)
            and checkpoint.position(tmp_path / "epoch-00002.bak") is None)


def test_the_last_ones_stay_and_always_the_end_of_an_epoch(tmp_path):
    for epoch, step in ((0, None), (1, None), (2, 10), (2, 20), (2, 30)):
        make(tmp_path, epoch, step, keep=2)
    assert names(tmp_path) == ["epoch-00001", "epoch-00002-step-000020", "epoch-00002-step-000030"]
    make(tmp_path, 2, None, keep=2)
    assert names(tmp_path) == ["epoch-00002-step-000030", "epoch-00002"]


def test_what_a_killed_save_has_left_goes_with_the_next(tmp_path):
    for name in (".epoch-00000.part", ".epoch-00007-step-000003.old"):
        (tmp_path / name).mkdir()
    make(tmp_path, 0)
    assert os.listdir(tmp_path) == ["epoch-00000"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"),
                                   RuntimeError("[enforce fail] write failed")])
def test_a_save_that_fails_says_so_and_leaves_the_older_one(tmp_path, error):
    make(tmp_path, 0)
    with (pytest.raises(Failure, match="epoch-00001: cannot be saved: .*; epoch-00000 stands"),
          writing(tmp_path, 1, None, 2)):
        raise error
    assert (os.listdir(tmp_path) == ["epoch-00000"]
            and checkpoint.read_stamp(tmp_path / "epoch-00000")["epoch"] == 0)


def test_a_damaged_generation_of_the_same_name_is_replaced(tmp_path):
    make(tmp_path, 0)
    (tmp_path / "epoch-00000" / "model.pt").write_text("damaged")
    make(tmp_path, 0)
    assert os.listdir(tmp_path) == ["epoch-00000"] and checkpoint.read_stamp(tmp_path / "epoch-00000")


def test_a_person_can_check_it_with_sha256sum(tmp_path):
    make(tmp_path, 3)
    words = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(words, cwd=tmp_path / "epoch-00003", capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr


def swapped(folder):
    one, two = folder / "epoch-00001", folder / "epoch-00002"
    one.rename(folder / "x")
    two.rename(one)
    (folder / "x").rename(two)


DAMAGE = {
    "a changed file": lambda folder: (folder / "epoch-00002" / "model.pt").write_text("weightz"),
    "an empty file": lambda folder: (folder / "epoch-00002" / "stamp.json").write_text(""),
    "a missing file": lambda folder: (folder / "epoch-00002" / "model.pt").unlink(),
    "another file more": lambda folder: (folder / "epoch-00002" / "more").write_text(""),
    "no sums": lambda folder: (folder / "epoch-00002" / "SHA256SUMS").unlink(),
    "empty sums": lambda folder: (folder / "epoch-00002" / "SHA256SUMS").write_text(""),
    "a blank line in the sums": lambda folder:
    (path := folder / "epoch-00002" / "SHA256SUMS").write_text(path.read_text() + "\n"),
    "sums in capitals": lambda folder:
    (path := folder / "epoch-00002" / "SHA256SUMS").write_text(path.read_text().upper()),
    "a file of another generation": lambda folder: shutil.copy(folder / "epoch-00001" / "model.pt",
                                                               folder / "epoch-00002" / "model.pt"),
    "two generations swapped": swapped,
    "an older one under its name": lambda folder: shutil.copytree(folder / "epoch-00001",
                                                                  folder / "epoch-00002", dirs_exist_ok=True),
    "a file in place of the folder": lambda folder: (shutil.rmtree(folder / "epoch-00002"),
                                                     (folder / "epoch-00002").write_text("")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_and_passed_over(tmp_path, damage):
    for epoch in range(3):
        make(tmp_path, epoch, text=f"weights {epoch}")
    damage(tmp_path)
    with pytest.raises(InputError, match="epoch-00002"):
        checkpoint.read_stamp(tmp_path / "epoch-00002")
    path, stamp, passed_over = checkpoint.newest(tmp_path, SerialComm(), lambda stamp: "")
    assert stamp["epoch"] == (0 if damage is swapped else 1) and path.endswith(f"epoch-0000{stamp['epoch']}")
    assert len(passed_over) == 2 - stamp["epoch"] and "epoch-00002" in passed_over[0]
    make(tmp_path, 2)
    assert checkpoint.read_stamp(tmp_path / "epoch-00002"), "and a new one takes its place"
    assert {path.name for path in tmp_path.iterdir()} == {"epoch-00000", "epoch-00001", "epoch-00002"}


def test_where_none_can_be_used_nothing_begins_anew(tmp_path):
    for epoch in range(2):
        make(tmp_path, epoch)
        (tmp_path / f"epoch-0000{epoch}" / "model.pt").write_text("damaged")
    with pytest.raises(InputError, match="none of 2 checkpoints can be used; move the folder away to begin "
                                         "anew .*epoch-00001/model.pt: differs"):
        checkpoint.newest(tmp_path, SerialComm(), lambda stamp: "")
    assert names(tmp_path) == ["epoch-00000", "epoch-00001"]
    assert checkpoint.newest(tmp_path / "elsewhere", SerialComm(), lambda stamp: "") == (None, None, [])


def test_a_disk_that_does_not_answer_is_no_damage(tmp_path, monkeypatch):
    """Else the run would go back, and its next save remove what is whole."""
    make(tmp_path, 0)
    make(tmp_path, 1)

    def busy(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("hpcfilter.train.checkpoint.generation._sha256", busy)
    with pytest.raises(Failure, match="epoch-00001: cannot be read: .*Input/output error"):
        checkpoint.newest(tmp_path, SerialComm(), lambda stamp: "")


def test_a_checkpoint_of_another_version_is_named(tmp_path):
    make(tmp_path, 0)
    with writing(tmp_path, 1, None, 2) as temporary:
        (temporary / "stamp.json").write_text(json.dumps({"format": 99, "epoch": 1, "step": None}))
    with pytest.raises(InputError, match="a checkpoint of format 99, expected 2"):
        checkpoint.read_stamp(tmp_path / "epoch-00001")


@pytest.mark.parametrize("left", ["file", "folder", "full"])
def test_leftovers_under_hidden_names_are_in_nobodys_way(tmp_path, left):
    make(tmp_path, 0)
    for path in (tmp_path / ".epoch-00000.old", tmp_path / ".epoch-00000.part"):
        path.write_text("") if left == "file" else path.mkdir()
        if left == "full":
            (path / "model.pt").write_text("old")
    (tmp_path / "epoch-00000" / "model.pt").write_text("damaged")
    make(tmp_path, 0)
    assert os.listdir(tmp_path) == ["epoch-00000"] and checkpoint.read_stamp(tmp_path / "epoch-00000")


def test_buffers_of_every_kind_come_back():
    from types import SimpleNamespace

    from hpcfilter.train.network import Network

    model = torch.nn.BatchNorm1d(3)
    for name, buffer in (("mask", torch.tensor([True, False])), ("none", torch.zeros(0)),
                         ("halves", torch.ones(2, dtype=torch.bfloat16)),
                         ("number", torch.tensor(7, dtype=torch.int32)), ("constant", torch.rand(2, 2))):
        model.register_buffer(name, buffer, persistent=name != "constant")
    network = SimpleNamespace(model=model)
    bits, was = Network.buffers(network), {name: buffer.clone() for name, buffer in model.named_buffers()}
    for buffer in model.buffers():
        buffer.zero_()
    Network.set_buffers(network, bits)
    assert all(torch.equal(buffer, was[name]) for name, buffer in model.named_buffers()) and was["mask"].any()


def test_one_that_does_not_fit_is_passed_over(tmp_path):
    make(tmp_path, 0)
    make(tmp_path, 1, 10)
    path, _, passed_over = checkpoint.newest(tmp_path, SerialComm(),
                                             lambda stamp: "other ranks" if stamp["step"] else "")
    assert (path.endswith("epoch-00000")
            and passed_over == [f"{tmp_path}/epoch-00001-step-000010: other ranks"])


def test_a_selection_comes_back_as_it_was():
    rng = np.random.default_rng(0)
    arrays = {name: rng.random(20) < 0.5 for name in ("keep", "moved_back", "refresh", "hard")}
    for streak, threshold in ((None, math.nan), (np.arange(20, dtype=np.uint8), np.float32(0.25))):
        was = Selection(**arrays, weight=rng.random(20).astype(np.float32), threshold=threshold,
                        lr_rule="kept", lr_scale=1.1, frozen=True, streak=streak)
        numbers = json.loads(json.dumps(was.numbers(), allow_nan=False))
        now = Selection.of(was.columns(), numbers)
        for name, value in vars(was).items():
            np.testing.assert_array_equal(getattr(now, name), value, err_msg=name)
            assert (getattr(getattr(now, name), "dtype", None) == getattr(value, "dtype", None)
                    or name == "threshold")


def test_observations_go_on_where_they_were_put_away():
    names = "value", "confidence", "correct", "loss"
    parts = [{"value": torch.rand(5), "confidence": torch.rand(5), "correct": torch.rand(5) < 0.5}
             for _ in range(4)]
    batches = [(np.arange(5) + 5 * step, step, {**part, "loss": part["value"] * 2})
               for step, part in enumerate(parts)]
    whole, first = Seen(names), Seen(names)
    for batch in batches:
        whole.add(*batch)
    for batch in batches[:2]:
        first.add(*batch)
    # as a table has it
    saved = {name: array.astype(np.uint8) if array.dtype == bool else array
             for name, array in first.rows().items()}
    rest = Seen(names, saved)
    for batch in batches[2:]:
        rest.add(*batch)
    expected, rows = whole.rows(), rest.rows()
    assert (set(rows) == {"index", "step", *names} and rows["loss"].dtype == np.float32
            and rows["correct"].dtype == bool)
    assert (rows["index"].tolist() == list(range(20))
            and rows["step"].tolist() == [step for step in range(4) for _ in range(5)])
    for name, array in expected.items():
        assert np.array_equal(rows[name], array) and rows[name].dtype == array.dtype, name
    again = Seen(names, rows).rows()
    assert np.array_equal(again["correct"], expected["correct"]), "nothing trained since"


def test_what_only_stands_in_is_not_observed():
    seen = Seen(("value",))
    seen.add(np.array([3, 4, 0]), 0, {"value": torch.tensor([1.0, 2.0, 9.0])}, np.array([True, True, False]))
    rows = seen.rows()
    assert rows["index"].tolist() == [3, 4] and rows["value"].tolist() == [1, 2] and len(seen) == 1


def test_young_daly():
    interval, loss = young_daly(10, 3 * 3600)
    assert interval == pytest.approx(464.8, abs=0.1) and loss == pytest.approx(0.043, abs=0.001)
    # The interval is the best one of its own model, C / t + t / (2 M).
    cost = {t: 10 / t + t / (2 * 10800) for t in range(100, 1000)}
    assert min(cost, key=cost.get) == round(interval) and min(cost.values()) == pytest.approx(loss, rel=1e-3)


def test_the_interval_follows_what_a_save_costs():
    assert Interval(None, None).wanted() == math.inf and Interval(30.0, 24).wanted() == 30.0
    auto = Interval("auto", 3)
    assert auto.wanted() == young_daly(1, 10800)[0], "before the first save"
    auto.saved(9)
    auto.saved(11)
    assert auto.wanted() == young_daly(10, 10800)[0]
    assert auto.summary(200) == {"saves": 2, "seconds_each": 10, "share": 0.1,
                                 "young_daly_seconds": young_daly(10, 10800)[0],
                                 "young_daly_loss": young_daly(10, 10800)[1]}
    assert Interval(30.0, None).summary(1) == {"saves": 0, "seconds_each": 0.0, "share": 0.0}


def test_nothing_is_ever_unpickled():
    """Weights by weights_only, arrays without pickles: whatever stands in a file, no code of it runs."""
    import re
    from pathlib import Path

    for path in Path(checkpoint.__file__).parent.parent.rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"pickle\.loads?\(|joblib|shelve|allow_pickle=True|weights_only=False",
                             text), (path)
        assert text.count("torch.load(") == text.count("weights_only=True)"), path
        assert text.count("np.load(") + text.count("read_array(") == text.count("allow_pickle=False"), path


def test_an_old_torch_does_not_read_weights(tmp_path, monkeypatch):
    from hpcfilter.train.checkpoint.state import read_weights

    torch.save({}, tmp_path / "model.pt")
    assert read_weights(tmp_path) == {}
    for version in ("2.9.1", "1.13.0+cu117"):
        monkeypatch.setattr(torch, "__version__", version)
        with pytest.raises(InputError, match=f"torch {version.replace('+', '.')} cannot read checkpoints "
                                             "safely; expected torch 2.10 or newer"):
            read_weights(tmp_path)


def test_weights_with_code_in_them_are_refused(tmp_path):
    from hpcfilter.train.checkpoint.state import read_weights

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    torch.save({"model": Evil()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"model.pt: cannot be loaded"):
        read_weights(tmp_path)
    assert not (tmp_path / "run").exists()
