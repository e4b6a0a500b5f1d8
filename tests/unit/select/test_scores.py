"""Scores against their equations, one sample at a time, and what they remember against a plain history."""

import numpy as np
import pytest
import torch

from hpcfilter.base.errors import InputError
from hpcfilter.base.shard import shard
from hpcfilter.comm.threads import run
from hpcfilter.data import open_packed
from hpcfilter.select.scores import SCORES, Scores, make_score
from hpcfilter.select.scores.centroid import Centroid
from hpcfilter.train.config import load
from hpcfilter.train.network import Network

B, C = 12, 5


def batch(seed=0):
    """Logits (B, C), labels (B,), losses (B,)."""
    generator = torch.Generator().manual_seed(seed)
    logits, labels = (torch.randn(B, C, generator=generator) * 2,
                      torch.randint(0, C, (B,), generator=generator))
    return logits, labels, torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def look(name, *arguments, **parameters):
    return make_score(name, parameters, True, "").look(*arguments, None).numpy()


def test_looks_against_their_equations():
    logits, labels, losses = batch()
    for i in range(B):
        z, y = logits[i].double().numpy(), int(labels[i])
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        expected = {"loss": -np.log(p[y]), "el2n": np.linalg.norm(p - np.eye(C)[y]), "confidence": 1 - p[y],
                    "margin": np.delete(z, y).max() - z[y], "aum": np.delete(z, y).max() - z[y],
                    "forgetting": float(z.argmax() == y), "dyn_unc": p[y]}
        for name, value in expected.items():
            assert look(name, logits, labels, losses)[i] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("bias", [True, False])
def test_grand_is_the_norm_of_the_last_layers_gradient(tmp_path, digits, config, bias):
    (tmp_path / "own_net.py").write_text("from torch import nn\ndef net(inputs, outputs):\n"
                                         "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), "
                                         f"nn.Tanh(), nn.Linear(9, outputs, bias={bias}))\n")
    import sys
    sys.path.insert(0, str(tmp_path))
    try:
        dataset = open_packed(digits)
        network = Network(load(config(digits, model={"name": None, "width": None, "factory": "own_net:net"},
                                      score={"name": "grand"})), dataset)
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["own_net"]
    seen, _ = network.infer(dataset.train, np.arange(6), 6)
    last = network.model[3]
    for i in range(6):
        x, y = network.tensors(*dataset.train.rows(np.array([i])))
        gradients = torch.autograd.grad(network.forward(x, y)[1].sum(), list(last.parameters()))
        assert seen["value"][i] == pytest.approx(float(torch.cat([g.reshape(-1) for g in gradients]).norm()),
                                                 rel=1e-4)


def test_grand_needs_a_linear_layer(digits, config):
    with pytest.raises(InputError, match="needs a model with a torch.nn.Linear layer"):
        Network(load(config(digits, model={"name": None, "width": None, "factory": "custom:pixels"},
                            score={"name": "grand"})), open_packed(digits))


def history(name, values, **parameters):
    """The importance of three samples after each of the rows of values (epochs, 3)."""
    scores = Scores(range(10, 13), 13, make_score(name, parameters, True, ""))
    rows = []
    for row in values:
        scores.update(np.arange(10, 13), {"value": np.asarray(row, np.float32)})
        rows.append(scores.importance.copy())
    return np.array(rows)


V = np.random.default_rng(0).random((20, 3)).astype(np.float32)


def test_memory_against_a_plain_history():
    assert np.array_equal(history("loss", V), V) and np.array_equal(history("el2n", V), V)
    average = V[0]
    for epoch, row in enumerate(history("ema", V, alpha=0.8)):
        average = V[0] if epoch == 0 else 0.8 * average + 0.2 * V[epoch]
        assert np.allclose(row, average, atol=1e-6)
    batch_average = np.zeros(3)
    for epoch, row in enumerate(history("batch_loss", V, alpha=0.7)):
        batch_average = 0.7 * batch_average + 0.3 * V[epoch]
        assert np.allclose(row, batch_average, atol=1e-6)
    s = V[0]
    for epoch, row in enumerate(history("evolved", V, b1=0.2, b2=0.9)):
        assert np.allclose(row, 0.2 * s + 0.8 * V[epoch], atol=1e-6)
        s = 0.9 * s + 0.1 * V[epoch]
    assert np.allclose(history("aum", V), np.cumsum(V, axis=0) / np.arange(1, 21)[:, None], atol=1e-6)


def test_differences_of_the_loss():
    rows = history("difference", V)
    assert np.isnan(rows[:4]).all()
    second = V[2:] - 2 * V[1:-1] + V[:-2]
    for epoch in range(4, 20):
        assert np.allclose(rows[epoch], np.abs(second[epoch - 4 : epoch - 1].mean(axis=0)), atol=1e-6)


def test_dynamic_uncertainty():
    rows = history("dyn_unc", V, window=6)
    assert np.isnan(rows[:5]).all()
    for epoch in range(5, 20):
        deviations = [V[first : first + 6].std(axis=0, ddof=1) for first in range(epoch - 4)]
        assert np.allclose(rows[epoch], np.mean(deviations, axis=0), atol=1e-6)


def test_forgetting_events():
    right = [[1, 0, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert history("forgetting", right).tolist() == [[0, np.inf, np.inf], [1, np.inf, 0], [1, np.inf, 0],
                                                     [2, np.inf, 1], [2, np.inf, 1]]


def test_a_value_that_is_not_finite_is_unknown_and_not_remembered():
    values = V.copy()
    values[7, 1], values[8, 1] = np.nan, np.inf
    rows, plain = history("ema", values), history("ema", V)
    assert (np.isnan(rows[7:9, 1]).all() and np.array_equal(rows[:, 0], plain[:, 0])
            and np.isfinite(rows[9:]).all())
    assert rows[9, 1] == pytest.approx(0.9 * rows[6, 1] + 0.1 * V[9, 1], abs=1e-6)


def test_of_repeated_observations_the_last_one_counts():
    scores = Scores(range(5), 5, make_score("aum", {}, True, ""))
    scores.update(np.array([3, 1, 3, 3]), {"value": np.array([9, 1, 8, 7], np.float32),
                                           "correct": np.array([True, True, False, False])})
    assert np.array_equal(scores.importance, [np.nan, 1, np.nan, 7, np.nan], equal_nan=True)
    assert (scores.seen.tolist() == [0, 1, 0, 3, 0]
            and scores.correct.tolist() == [False, True, False, False, False])


@pytest.mark.parametrize("name", [name for name in SCORES if name != "centroid"])
def test_what_is_saved_goes_on_as_before(name):
    score = make_score(name, {}, True, "")
    first = Scores(range(2, 9), 20, score)
    rng = np.random.default_rng(1)
    for _ in range(12):
        first.update(np.arange(2, 9), {"value": rng.random(7).astype(np.float32)})
    second = Scores(range(2, 9), 20, score)
    second.restore(first.columns())
    for scores in (first, second):
        scores.update(np.arange(2, 9), {"value": np.linspace(0, 1, 7, dtype=np.float32)})
    for column, array in first.columns().items():
        assert np.array_equal(array, second.columns()[column], equal_nan=True), column
    with pytest.raises(KeyError, match="got the columns"):
        second.restore({"importance": np.zeros(7)})


@pytest.mark.parametrize("form", ["distance", "margin"])
@pytest.mark.parametrize("ranks", [1, 3])
def test_centroids(form, ranks):
    rng = np.random.default_rng(0)
    h, y = rng.normal(size=(40, 3)), rng.integers(0, 4, 40)
    y[y == 2] = 1  # class 2 is empty: its centre is that of all

    def play(comm):
        own, score = shard(40, comm.rank, comm.size), Centroid(form=form)
        features, target = (torch.from_numpy(h[own.start : own.stop]),
                            torch.from_numpy(y[own.start : own.stop]))
        if comm.rank != 1:
            score.add(target, features, 4)
        else:
            for row in range(len(own)):
                score.add(target[row : row + 1], features[row : row + 1], 4)
        score.merge(comm)
        return score.look(None, target, None, features).numpy()

    centres = np.stack([h[y == c].mean(axis=0) if (y == c).any() else h.mean(axis=0) for c in range(4)])
    distance = np.linalg.norm(h[:, None] - centres, axis=2)
    own = distance[np.arange(40), y]
    distance[np.arange(40), y] = np.inf
    np.testing.assert_allclose(np.concatenate(run(ranks, play)),
                               own if form == "distance" else own - distance.min(axis=1), rtol=1e-6)


@pytest.mark.parametrize("name, parameters, message", [
    ("los", {}, "score.name: unknown 'los'; known: aum"), ("ema", {"alpha": 1.0}, "score.alpha"),
    ("loss", {"alpha": 0.5}, "score.alpha: unknown key"),
    ("dyn_unc", {"window": 1}, "score.window"),
])
def test_bad_scores_are_refused(name, parameters, message):
    with pytest.raises(InputError, match=message):
        make_score(name, parameters, True, "")


def test_a_score_that_needs_classes_says_so():
    with pytest.raises(InputError, match="el2n needs class labels, got float32 targets; scores without: "
                                         "loss, ema, difference, batch_loss, evolved"):
        make_score("el2n", {}, False, "float32 targets")


def test_every_docstring_says_what_it_remembers():
    for name, score in SCORES.items():
        assert "importance" in score.__doc__ and "Memory:" in score.__doc__, name
