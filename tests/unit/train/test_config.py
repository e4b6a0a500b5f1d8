"""The run config: what is set counts, what nobody knows is refused with the place and the valid names."""

import tomllib

import pytest

from hpcfilter.base.errors import InputError
from hpcfilter.base.registry import bind
from hpcfilter.train.config import load


def written(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


GOOD = 'seed = 7\n[data]\npath = "d.h5"\n[train]\nepochs = 4\nbatch = 32\n'


def test_defaults_file_settings(tmp_path):
    config = load(written(tmp_path, GOOD),
                  ["train.epochs=9", "filter.policy=random", "filter.fraction=0.25", "data.order=shard"])
    assert (config.seed, config.train.epochs, config.train.batch, config.optim.momentum) == (7, 9, 32, 0.9)
    assert (config.filter.policy == "random" and config.filter.model_extra == {"fraction": 0.25}
            and config.data.order == "shard")
    assert config.data.path.is_absolute()


def test_the_resolved_config_reads_back_the_same(tmp_path):
    config = load(written(tmp_path, GOOD), ["filter.policy=random", "model.width=8"])
    (tmp_path / "resolved.toml").write_text(config.toml())
    again = load(tmp_path / "resolved.toml")
    assert again.model_dump() == config.model_dump() and again.digest() == config.digest()
    assert load(written(tmp_path, GOOD)).digest() != config.digest()
    assert tomllib.loads(config.toml())["model"]["width"] == 8


@pytest.mark.parametrize("text, message", [
    (GOOD + "epoch = 3\n", r"run.toml, line 7: train.epoch: unknown key; known: epochs, batch, "),
    (GOOD + "[trian]\nx = 1\n", r"trian: unknown key; known: seed, data, model, train"),
    (GOOD.replace("epochs = 4", "epochs = 0"), r"run.toml, line 5: train.epochs: expected 1 or more, got 0"),
    (GOOD.replace("epochs = 4", 'epochs = "many"'), r"train.epochs: expected a whole number, got 'many'"),
    (GOOD + "global_batch = 3\n", r"train: batch .* and global_batch .* exclude each other"),
    (GOOD + '[schedule]\nname = "linear"\n',
     r"run.toml, line 8: schedule.name: expected 'cosine', 'polynomial', 'step' or 'constant', got 'linear'"),
    ("seed = 1\n", r"run.toml: data: missing"),
    ("seed = = 1\n", r"run.toml: not TOML: .*line 1"),
    (GOOD.replace("seed = 7", "seed = -1"), r"run.toml, line 1: seed: "),
])
def test_mistakes_are_one_line_with_the_place(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        load(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_bad_settings_are_refused(tmp_path):
    path = written(tmp_path, GOOD)
    for setting, message in (("train.epochs", "expected key=value"),
                             ("seed.x=1", "'seed' is a value, not a table"), ("=1", "expected key=value")):
        with pytest.raises(InputError, match=message):
            load(path, [setting])
    with pytest.raises(InputError, match="nothing.toml: cannot read the run config: No such file"):
        load(tmp_path / "nothing.toml")


def test_a_signature_is_a_schema():
    def policy(scores, *, fraction: float = 0.3, epochs: int, name: str = "x"):
        pass

    assert bind(policy, {"fraction": 1}, "filter", epochs=5, other=6) == {"fraction": 1.0, "epochs": 5,
                                                                          "name": "x"}
    with pytest.raises(InputError, match=r"filter.epochs: missing \(of policy\)"):
        bind(policy, {}, "filter")
    with pytest.raises(InputError,
                       match=r"filter.size: unknown key; known: fraction, epochs, name \(of policy\)"):
        bind(policy, {"size": 1, "epochs": 1}, "filter")
