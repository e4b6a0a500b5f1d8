"""Keys of run configs that have moved: each is refused with the place where it is now."""

import re

import pytest

from hpcfilter.base.errors import InputError
from hpcfilter.train.config import load
from hpcfilter.train.moved import MOVED, ONCE

HEAD = '[data]\npath = "d.h5"\n'
OLD = {  # what stood in [train] before, each with a value that it took
       "lr": 0.1, "lr_batch": 64, "lr_scaling": '"sqrt"', "momentum": 0.5, "trust": 0.01, "weight_decay": 0.1,
       "clip_norm": 1.0, "warmup_epochs": 1, "warmup_lr": 0.0, "power": 2.0, "milestones": [0.5],
       "gamma": 0.5, "breakdown": "true", "noise_scale": "true", "optimizer": '"adam"',
       "optimizer_options": "{eps = 1e-6}", "schedule": '"step"', "loss": '"mse"', "label_smoothing": 0.1,
       "reduction": '"adasum"', "compression": '"fp16"', "micro_batch": 8, "extrapolate": '"past"',
       "extrapolation": 0.5,}


def test_every_key_that_has_moved_is_here():
    assert {f"train.{key}" for key in OLD} == set(MOVED)


@pytest.mark.parametrize("key", OLD)
def test_an_old_key_names_its_new_place(tmp_path, key):
    old, new, path = f"train.{key}", MOVED[f"train.{key}"], tmp_path / "run.toml"
    path.write_text(f"{HEAD}[train]\n{key} = {OLD[key]}\n")
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}, line 4: {old}: has moved to {new}')}$"):
        load(path)
    path.write_text(HEAD)
    with pytest.raises(InputError, match=f"^{re.escape(f'command line: {old}: has moved to {new}')}$"):
        load(path, [f"{old}={OLD[key]}"])


@pytest.mark.parametrize("key", OLD)
def test_the_new_place_takes_the_same_value(tmp_path, key):
    new = MOVED[f"train.{key}"].partition(" ")[0]
    (tmp_path / "run.toml").write_text(HEAD)
    needs = {"schedule.power": ["schedule.name=polynomial"], "schedule.milestones": ["schedule.name=step"],
             "schedule.gamma": ["schedule.name=step"]}
    assert load(tmp_path / "run.toml", [*needs.get(new, []), f"{new}={OLD[key]}"])


@pytest.mark.parametrize("policy", ONCE)
@pytest.mark.parametrize("key, value", [("after", "2"), ("restart", "false")])
def test_what_cut_after_some_epochs_has_become_phases(tmp_path, policy, key, value):
    path = tmp_path / "run.toml"
    path.write_text(f'{HEAD}[filter]\npolicy = "{policy}"\n{key} = {value}\n')
    words = (f"filter.{key}: has become phases, at the beginning of which {policy} cuts: "
             "[[phase]] epochs = 20, then [[phase]] epochs = 70")
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}, line 5: {words}')}"):
        load(path)
    path.write_text(f'{HEAD}[filter]\npolicy = "{policy}"\n')
    with pytest.raises(InputError, match=f"^{re.escape(f'command line: {words}')}"):
        load(path, [f"filter.{key}={value}"])


def test_other_policies_may_have_such_a_parameter(tmp_path):
    (tmp_path / "run.toml").write_text(f'{HEAD}[filter]\npolicy = "mine:policy"\nafter = 3\n')
    assert load(tmp_path / "run.toml").filter.model_extra == {"after": 3}
