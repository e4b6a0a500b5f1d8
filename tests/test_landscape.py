"""The landscape of the loss: what a probe measures, on one rank, on several, and after it was killed."""

import itertools
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import ArpackError, eigsh
from test_real_ranks import ok
from torch import nn

from hpcfilter import checkpoint, cli
from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run as play
from hpcfilter.config import Train, load
from hpcfilter.data import open_packed, read_probe, read_table, write_probe
from hpcfilter.data.pack import pack
from hpcfilter.errors import BrokenInvariant, InputError
from hpcfilter.landscape import Options, lanczos, probe
from hpcfilter.landscape.barrier import statistics_of
from hpcfilter.landscape.curvature import TOLERANCE, eigenvalues, hutchinson, signs
from hpcfilter.landscape.lanczos import largest
from hpcfilter.landscape.loss import Loss, batch_of
from hpcfilter.landscape.probe import _Probe
from hpcfilter.landscape.samples import principal
from hpcfilter.landscape.service import NOT_FINITE, served
from hpcfilter.landscape.sets import chosen
from hpcfilter.landscape.shape import flat_share, minima, minima_of_plane, roughness
from hpcfilter.landscape.sharpness import sharpness
from hpcfilter.landscape.weights import Weights
from hpcfilter.network import Network
from hpcfilter.report import read_run
from hpcfilter.train import train

QUICK = {"batch": 512, "samples": 150, "points": 5, "directions": 2, "grid": 3, "eigenvalues": 3, "probes": 4}


def linear(inputs, outputs):
    """A model whose mean squared error is a quadratic function of its weights."""
    return nn.Linear(inputs[0], outputs)


class Frozen(nn.Module):
    """Only the last layer trains, and one weight is never used."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.last, self.idle = nn.Linear(inputs[1] * inputs[2], 8), nn.Linear(8, outputs), nn.Parameter(torch.ones(2, 3))
        self.first.requires_grad_(False)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x.flatten(1))))


def absolute():
    """A loss that is linear in the weights of a linear model, nearly everywhere."""
    return lambda output, target: (output - target).abs().mean(dim=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits, regression):
    """trained(name): the folder of a short run. a and b differ in their seed; quadratic is of a linear model; everything, of the policy none; single
    has one number as target."""
    folder = tmp_path_factory.mktemp("trained")
    one_number = folder / "single.h5"
    x = np.random.default_rng(1).normal(size=(100, 3)).astype(np.float32)
    np.savez(folder / "single.npz", x=x, y=x.sum(1))
    pack(folder / "single.npz", one_number, regression=True)
    kinds = {"a": (digits, 3, 'name = "cnn"\nwidth = 4', 'policy = "kakurenbo"\nfraction = 0.3\ntau = 0.2'),
             "b": (digits, 4, 'name = "cnn"\nwidth = 4', 'policy = "kakurenbo"\nfraction = 0.3\ntau = 0.2'),
             "infobatch": (digits, 3, 'name = "mlp"\nhidden = 8', 'policy = "infobatch"'),
             "single": (one_number, 3, 'factory = "test_landscape:linear"', 'policy = "none"'),
             "everything": (digits, 3, 'name = "mlp"\nhidden = 8', 'policy = "none"'),
             "frozen": (digits, 3, 'factory = "test_landscape:Frozen"', 'policy = "none"'),
             "quadratic": (regression, 3, 'factory = "test_landscape:linear"', 'policy = "random"\nfraction = 0.3')}

    def make(name):
        if not (folder / name).exists():
            packed, seed, model, policy = kinds[name]
            (folder / f"{name}.toml").write_text(f'seed = {seed}\n[data]\npath = "{packed}"\n[model]\n{model}\n[filter]\n{policy}\n'
                                                 "[train]\nepochs = 2\nglobal_batch = 60\nlr = 0.1\nwarmup_epochs = 0\n")
            train(folder / f"{name}.toml", folder / name, SerialComm())
        return folder / name

    return make


@pytest.fixture
def bench(trained):
    """bench(name of a run, options) -> a probe that has not measured anything yet."""

    def make(name, **options):
        path, stamp = checkpoint.of_epoch(trained(name))
        return _Probe(load(trained(name) / "config.toml"), path, stamp, Options(**{"batch": 512, **options}), SerialComm())

    return make


def same(one, other, rtol=0.0):
    """Whether two dicts of numbers, arrays and dicts are equal, floats up to rtol."""
    assert set(one) == set(other)
    for name, value in one.items():
        if isinstance(value, dict):
            same(value, other[name], rtol)
        elif isinstance(value, str | list):
            assert value == other[name], name
        elif name == "residuals" and rtol:  # are rounding
            assert len(value) == len(other[name]) and max(*value, *other[name]) < TOLERANCE * max(one["eigenvalues"])
        else:
            np.testing.assert_allclose(other[name], value, rtol, 1e-6 * (rtol > 0), err_msg=name)


def test_a_quadratic_loss_has_the_curvature_that_it_must_have(bench):
    """The mean squared error of a linear model with 2 outputs: its Hessian is that of each output, the second moment of the samples with a 1."""
    work = bench("quadratic", eigenvalues=4)
    for loss in work.losses.values():
        x, y = (part.double().numpy() for part in work.network.tensors(*work.dataset.train.rows(loss.index)))
        wide = np.c_[x, np.ones(len(x))]
        moment = wide.T @ wide / len(x)
        block = np.kron(np.eye(2), moment)  # of (weight row, bias) of each output
        order = [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 6, 13]  # as torch has them: all weights, then both biases
        hessian = block[np.ix_(order, order)]
        values, residuals = eigenvalues(loss.product, work.weights.size, 4, 0)
        np.testing.assert_allclose(values, np.linalg.eigvalsh(hessian)[::-1][:4], rtol=1e-5)
        assert (residuals <= TOLERANCE * values).all()
        np.testing.assert_allclose([loss.curve(vector) for vector in np.eye(14)], hessian.diagonal(), rtol=1e-5)
        trace, error = hutchinson(np.array([loss.curve(signs(14, 0, number)) for number in range(200)]))
        assert abs(trace - np.trace(hessian)) < 4 * error and 0 < error < 0.1 * trace
        weight, bias = (p.detach().double().numpy() for p in work.weights.parameters)
        rest = x @ weight.T + bias - y
        gradient = np.concatenate([(rest.T @ x).ravel(), rest.sum(0)]) / len(x)
        np.testing.assert_allclose(loss.gradient(), gradient, atol=1e-6)
        length, rho, base = np.linalg.norm(gradient), 0.5, loss.shared()[0]
        assert base == pytest.approx((rest**2).mean(), rel=1e-5)
        rise = sharpness(work.weights, loss, base, rho)["sharpness"]
        assert rise == pytest.approx(rho * length + rho**2 / 2 * gradient @ hessian @ gradient / length**2, rel=1e-4)


def test_ranks_that_run_out_of_vectors_take_the_same_new_ones():
    """After a single step the Lanczos method has all that a vector tells of these matrices, and goes on with a random one."""
    for diagonal in (np.full(30, 2.0), np.repeat([3.0, 1.0], 20)):
        one, two = (largest(lambda vector, d=diagonal: d * vector, len(diagonal), 5, 1, TOLERANCE) for _ in range(2))
        assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])
        np.testing.assert_allclose(one[0], diagonal[:5], rtol=1e-6)


def test_random_signs_are_a_function_of_seed_and_number():
    draws = np.array([signs(1000, 1, number) for number in range(3)])
    assert set(draws.ravel()) == {-1.0, 1.0} and (np.abs(draws.mean(1)) < 0.15).all()
    assert np.array_equal(draws[1], signs(1000, 1, 1)) and not np.array_equal(draws[0], draws[1]) and np.array_equal(draws[0][:10], signs(10, 1, 0))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of a library that curvlinops imports
@pytest.mark.parametrize("name", ["a", "everything", "frozen"])
def test_eigenvalues_are_those_of_curvlinops(bench, name):
    curvlinops = pytest.importorskip("curvlinops", reason="curvlinops-for-pytorch is not installed: no other library to compare with")
    from scipy.sparse.linalg import eigsh

    work = bench(name)
    loss = work.losses["filtered"]
    data = [work.network.tensors(*work.dataset.train.rows(part)) for part in np.array_split(loss.index, 3)]
    used = [p for name, p in work.network.model.named_parameters() if p.requires_grad and name != "idle"]
    theirs = eigsh(curvlinops.HessianLinearOperator(work.network.model, nn.CrossEntropyLoss(), used, data).to_scipy(), 5, which="LA")[0][::-1]
    np.testing.assert_allclose(eigenvalues(loss.product, work.weights.size, 5, 0)[0], theirs, rtol=1e-4)


def test_channels_last_and_half_precision_leave_the_curvature_as_it_is(bench, trained):
    path, stamp = checkpoint.of_epoch(trained("a"))
    found = []
    for settings in ([], ["train.channels_last=true"], ["train.precision=bfloat16"]):
        work = _Probe(load(trained("a") / "config.toml", settings), path, stamp, Options(samples=100), SerialComm())
        found.append(work.losses["full"].curve(signs(work.weights.size, 0, 0)))
    assert found[1] == pytest.approx(found[0], rel=1e-5) and found[2] == pytest.approx(found[0], rel=1e-5)


def test_directions_are_as_long_as_the_weights_filter_by_filter(bench):
    weights = bench("a").weights
    one, again, other = weights.direction(1, 0), weights.direction(1, 0), weights.direction(1, 1)
    for parameter, d, same_d, other_d in zip(weights.parameters, one, again, other, strict=True):
        assert torch.equal(d, same_d)
        if parameter.ndim < 2:
            assert not d.any()
        else:
            torch.testing.assert_close(d.flatten(1).norm(dim=1), parameter.detach().flatten(1).norm(dim=1))
            assert not torch.equal(d, other_d)


def test_the_middle_of_a_slice_is_the_loss_and_its_points_are_where_they_should_be(bench, trained, tmp_path):
    found = probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=Options(**QUICK, what=("slices",)))[1]
    work = bench("a", **QUICK)
    for name, part in found.sets.items():
        loss, line, plane = work.losses[name], part["slice1d"], part["slice2d"]
        assert len(loss.index) == 150 and found.about["sets"] == {"full": 150, "filtered": 150}
        for value in ("loss", "error"):
            np.testing.assert_allclose([*line[value][:, 2], plane[value][1, 1]], part[value], rtol=1e-6)
        first, second = work.weights.direction(3, 0), work.weights.direction(3, 1)
        with work.weights.moved((0.5, second)):
            assert line["loss"][1, 3] == loss.alone()[0]
        with work.weights.moved((-1.0, first), (1.0, second)):
            assert plane["loss"][0, 2] == loss.alone()[0]
        assert line["minima"].tolist() == [minima(curve) for curve in line["loss"]]
    assert list(line["position"]) == [-1, -0.5, 0, 0.5, 1] and found.sets["full"]["loss"] != found.sets["filtered"]["loss"]


def test_a_killed_probe_goes_on_where_it_was(trained, tmp_path, monkeypatch):
    """Killed at its 9th, 14th and 40th look at a whole set, and once without a word between two parts: the same file as in one piece."""
    options = Options(**QUICK, other=str(trained("b")))
    whole = probe(trained("a"), SerialComm(), output=tmp_path / "whole.h5", options=options)[1]
    monkeypatch.setattr("hpcfilter.landscape.file.EVERY", 0.0)
    look, looks = Loss.alone, itertools.count(1)

    def dies(loss):
        if next(looks) in (9, 14, 40):
            raise KeyboardInterrupt
        return look(loss)

    monkeypatch.setattr(Loss, "alone", dies)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=options)
        assert np.isnan(read_probe(tmp_path / "p.h5").sets["full"]["slice1d"]["loss"]).sum() in (2, 0)
    probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=options)
    points = 2 * (2 * 5 + 9 + 21)
    assert next(looks) == points + 3 + 1  # only the looks that died were made twice
    for found in (read_probe(tmp_path / "p.h5"), read_probe(tmp_path / "whole.h5")):
        same(whole.sets, found.sets)
        same(whole.samples, found.samples)
    before = (tmp_path / "p.h5").stat().st_ino
    probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=Options(**QUICK, what=("curvature",)))
    assert next(looks) == points + 5 and (tmp_path / "p.h5").stat().st_ino == before  # nothing was left to do


@pytest.mark.parametrize("ranks", [2, 3])
def test_points_divided_over_ranks_have_the_values_of_one(trained, tmp_path, ranks):
    options = Options(**QUICK, other=str(trained("b")))
    one = probe(trained("a"), SerialComm(), output=tmp_path / "one.h5", options=options)[1]
    for found in [*(found for _, found in play(ranks, lambda comm: probe(trained("a"), comm, output=tmp_path / "p.h5", options=options))),
                  read_probe(tmp_path / "p.h5")]:
        assert found.about["ranks"] == ranks
        assert all(found.about[name] == value for name, value in one.about.items() if name != "ranks")
        for name, part in one.sets.items():
            for group in ("slice1d", "slice2d"):
                same(part[group], found.sets[name][group], 1e-6)
        same(one.sets, found.sets, 1e-4)
        same({**one.samples, "xy": np.abs(one.samples["xy"])}, {**found.samples, "xy": np.abs(found.samples["xy"])}, 1e-3)


def test_two_real_ranks_measure_what_one_does(trained, tmp_path, hpcfilter):
    words = [word for name, value in QUICK.items() for word in (f"--{name}", str(value))]
    for ranks in (1, 2):
        done = ok(hpcfilter(ranks, "probe", trained("a"), "--other", trained("b"), "-o", tmp_path / f"{ranks}.h5", *words))
        assert "largest eigenvalues" in done.stdout and str(tmp_path / f"{ranks}.h5") in done.stdout and done.stdout.count("sharpness") == 1
    one, two = (read_probe(tmp_path / f"{ranks}.h5") for ranks in (1, 2))
    assert (one.about["ranks"], two.about["ranks"]) == (1, 2) and one.about["weights"] == two.about["weights"]
    assert one.about["sets"] == two.about["sets"] == {"full": 150, "filtered": 150}
    same(one.sets, two.sets, 1e-4)
    assert np.array_equal(one.samples["index"], two.samples["index"])


def test_the_weights_are_those_that_the_run_has_ended_with(trained, tmp_path):
    found = probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=Options(**QUICK))[1]
    assert found.about["weights"] == read_run(trained("a"))[2]["weights"]
    assert found.about["epoch"] == 1 and found.about["data"] == read_run(trained("a"))[0]["data"]


def test_weights_that_do_not_come_back_stop_the_probe(trained, tmp_path, monkeypatch):
    @contextmanager
    def stays(weights):
        yield

    monkeypatch.setattr(Weights, "restored", stays)
    with pytest.raises(BrokenInvariant, match="slices has left weights of digest .* a probe leaves no trace"):
        probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=Options(**QUICK, what=("slices",)))


def test_the_barrier_to_oneself_is_zero_and_to_another_run_is_not(trained, tmp_path):
    barriers = {}
    for other in "ab":
        options = Options(samples=300, what=("barrier",), other=str(trained(other)))
        found = probe(trained("a"), SerialComm(), output=tmp_path / f"{other}.h5", options=options)[1]
        barriers[other] = found.sets["full"]["barrier"]
        assert barriers[other]["other"] == str(trained(other)) and barriers[other]["weights"] == read_run(trained(other))[2]["weights"]
        assert barriers[other]["alpha"][[0, -1]].tolist() == [0, 1]
    assert barriers["a"]["barrier"] == pytest.approx(0, abs=1e-12) and barriers["b"]["barrier"] > 0.1
    assert barriers["b"]["loss"][-1] == barriers["a"]["loss"][0]  # alpha = 1 is this run
    assert set(found.sets["full"]) == {"loss", "error", "barrier"} and found.samples is None


def test_statistics_of_batch_normalisation_are_taken_anew(bench):
    work = bench("a")
    network, layer = work.network, next(m for m in work.network.model.modules() if isinstance(m, nn.BatchNorm2d))
    seen = []
    hook = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    modes = [m.training for m in network.model.modules()]
    with work.weights.restored():
        layer.running_mean.fill_(7)
        statistics_of(network, work.dataset.train, 0, 256)()
        hook.remove()
        assert len(seen) == 1438 // 256 and {len(batch) for batch in seen} == {256}
        torch.testing.assert_close(layer.running_mean, torch.stack([batch.mean((0, 2, 3)) for batch in seen]).mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.running_var, torch.stack([batch.var((0, 2, 3)) for batch in seen]).mean(0), rtol=1e-4, atol=1e-5)
    work.weights.prove("the statistics")
    assert modes == [m.training for m in network.model.modules()] and layer.momentum == 0.1


def test_minima_roughness_and_flatness_of_known_shapes():
    x = np.linspace(-1, 1, 201)
    for curve, wanted in ((x**2, 1), (x, 0), (np.cos(4 * np.pi * x), 4), (np.zeros(5), 0), ([3, 1, 1, 2, 0, 0], 1), ([1, 2, 3], 0),
                          ([2, 1, np.inf], 1)):
        assert minima(np.array(curve)) == wanted
    assert roughness(x**2) == pytest.approx(0, abs=1e-12) and roughness(x) == 0 and roughness(np.zeros(3)) == 0
    assert roughness(np.array([2.0, 0.0, 1.0, 0.0, 2.0])) == 1.0 and np.isnan(roughness(np.array([1.0, np.inf])))
    assert roughness(x**2 + 0.05 * np.cos(40 * x)) > 0.5
    a, b = x[::10, None], x[None, ::10]
    assert minima_of_plane(a**2 + b**2) == 1 and minima_of_plane(a + b) == 0 and minima_of_plane((a**2 - 0.25) ** 2 + b**2) == 2
    plateau = np.full((6, 6), 2.0)
    plateau[2:4, 2:4] = 1
    assert minima_of_plane(plateau) == 1
    plateau[4:, 3] = 1  # reaches the edge
    assert minima_of_plane(plateau) == 0 and minima_of_plane(np.full((5, 5), np.inf)) == 0
    assert flat_share(10 * (a**2 + b**2)) == np.mean(a**2 + b**2 <= 0.01)


def test_a_smaller_number_of_samples_is_part_of_a_larger_one():
    index = np.arange(0, 1000, 3)
    small, large = chosen(index, 50, 1), chosen(index, 100, 1)
    assert len(small) == 50 and set(small) <= set(large) <= set(index) and (np.diff(small) > 0).all()
    assert not np.array_equal(small, chosen(index, 50, 2))
    assert np.array_equal(chosen(index, None, 1), index) and np.array_equal(chosen(index, 334, 1), index)


def test_the_map_holds_the_ends_of_the_importance_and_what_the_network_makes_of_the_samples(trained, digits, tmp_path):
    found = probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=Options(samples=300, what=("map",)))[1]
    samples, dataset = found.samples, open_packed(digits)
    importance = read_table(trained("a") / "checkpoints" / "epoch-00001" / "scores.h5")[0]["importance"]
    order, index = np.argsort(importance, kind="stable"), samples["index"]
    assert np.array_equal(samples["importance"], importance[index]) and np.array_equal(samples["label"], dataset.train.labels[index])
    assert np.array_equal(index[samples["lowest"]], order[:24]) and set(index[samples["highest"]]) == set(order[-24:])
    around = importance[index[samples["around"]]]
    assert len(around) == 24 and (np.diff(around) >= 0).all() and around[11] <= samples["threshold"] < around[12]
    assert set(chosen(np.arange(1438), 300, 3)) <= set(index) and len(index) <= 300 + 72
    assert (samples["prediction"] == samples["label"]).mean() > 0.7 and (0.1 <= samples["confidence"]).all() and (samples["confidence"] <= 1).all()
    assert found.about["kept"] < found.about["total"] == samples["total"] and set(samples["kept"]) == {0, 1}
    assert np.array_equal(samples["images"], dataset.train.images[index[samples["image_of"]]]) and len(samples["images"]) >= 100
    assert samples["classes"] == [str(n) for n in range(10)] and samples["layout"] == "HW" and samples["xy"].shape == (len(index), 2)
    same(samples, read_probe(tmp_path / "p.h5").samples)


def test_the_map_of_a_regression_has_neither_classes_nor_images(trained, tmp_path):
    samples = probe(trained("quadratic"), SerialComm(), output=tmp_path / "p.h5", options=Options(samples=30, what=("map",)))[1].samples
    assert samples["classes"] == [] and (samples["label"] == -1).all() and (samples["prediction"] == -1).all() and "images" not in samples
    assert np.isnan(samples["confidence"]).all() and np.isfinite(samples["loss"]).all() and not len(read_probe(tmp_path / "p.h5").samples["around"])


def test_principal_components():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 8)).astype(np.float32) * [9, 5, 1, 1, 1, 1, 1, 1]
    xy = principal(features, np.arange(200) < 150)
    centred = features[:150] - features[:150].mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    np.testing.assert_allclose(np.abs(xy[:150]), np.abs(centred @ axes.T), atol=1e-3)
    features[3] = np.nan
    assert np.isnan(principal(features, np.ones(200, bool))[3]).all() and not principal(np.ones((5, 9), np.float32), np.ones(5, bool)).any()
    assert not principal(features[:, :1], np.ones(200, bool))[4:, 1].any()


def test_a_policy_that_keeps_everything_says_so_and_both_sets_are_the_same(trained, tmp_path, capsys):
    words = ["probe", str(trained("everything")), "-o", str(tmp_path / "p.h5"), "--what", "curvature", "--samples", "90", "--probes", "2"]
    assert cli.main(words) == 0
    assert "none keeps all 1438 samples" in capsys.readouterr().out
    found = read_probe(tmp_path / "p.h5")
    same(found.sets["full"], found.sets["filtered"])
    assert found.about["sets"] == {"full": 90, "filtered": 90} and np.isnan(found.about["fraction"]) and "trace" in found.sets["filtered"]


def test_a_table_can_say_what_is_kept(trained, tmp_path, capsys):
    run, words = str(trained("a")), ["--what", "sharpness", "--samples", "50"]
    assert cli.main(["score", run, "-o", str(tmp_path / "scores.h5")]) == 0
    assert cli.main(["select", str(tmp_path / "scores.h5"), "--fraction", "0.5"]) == 0
    assert cli.main(["probe", run, "-o", str(tmp_path / "p.h5"), "--selection", str(tmp_path / "selection.h5"), *words]) == 0
    about = read_probe(tmp_path / "p.h5").about
    assert (about["policy"], about["kept"], about["total"]) == ("static", 719, 1438)
    assert cli.main(["probe", run, "-o", str(tmp_path / "p.h5"), *words]) == 2
    assert "holds a probe of selection" in capsys.readouterr().err


@pytest.mark.parametrize("words, problem", [
    (["--what", "curvature,shape"], "probe: --what: unknown 'shape'; known: curvature, slices, map, sharpness, barrier"),
    (["--what", "barrier"], "--what: barrier needs the run folder of other weights, --other"),
    (["--points", "50"], "--points: got 50, expected an odd number from 3 on"),
    (["--grid", "1"], "--grid: got 1, expected an odd number"),
    (["--span", "0"], "--span: got 0.0, expected a number above 0"),
    (["--rho", "nan"], "--rho: got nan, expected a number above 0"),
    (["--probes", "1"], "--probes: got 1, expected 2 or more"),
    (["--samples", "0"], "expected a number from 1 on"),
    (["--batch", "0"], "expected a number from 1 on"),
    (["--epoch", "7"], "no checkpoint of epoch 7; there are: 0, 1"),
    (["--what", "barrier", "--other", "nowhere"], "nowhere: no checkpoints there"),
    (["--selection", "nowhere.h5"], "nowhere.h5: cannot read"),
    (["--set", "score.name=el2n"], "has trained with loss, got el2n"),
    (["--set", "model.width=8"], "it belongs to another model"),
    (["-o", "nowhere/probe.h5"], "nowhere/probe.h5: cannot be the file to write: no folder nowhere")])
def test_bad_input_is_one_line(trained, capsys, tmp_path, monkeypatch, words, problem):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["probe", str(trained("a")), "-o", "p.h5", "--samples", "20", "--what", "sharpness", *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and problem in said[0]


def test_other_weights_must_fit(trained, tmp_path, capsys):
    words = ["-o", str(tmp_path / "p.h5"), "--samples", "20", "--what", "barrier", "--other"]
    assert cli.main(["probe", str(trained("a")), *words, str(trained("everything"))]) == 2
    assert cli.main(["probe", str(trained("a")), *words, str(trained("b"))]) == 0
    assert cli.main(["probe", str(trained("a")), *words, str(trained("a"))]) == 2
    said = capsys.readouterr().err
    assert "it belongs to another model" in said and "holds the barrier to" in said


def test_a_barrier_goes_on_to_the_same_weights_only(trained, tmp_path, capsys, monkeypatch):
    """The digest of the other weights counts, not the path of their run."""
    words = ["probe", str(trained("a")), "-o", str(tmp_path / "p.h5"), "--samples", "20", "--what", "barrier", "--other", str(tmp_path / "other")]
    shutil.copytree(trained("b"), tmp_path / "other")
    monkeypatch.setattr("hpcfilter.landscape.file.EVERY", 0.0)
    look, looks = Loss.alone, itertools.count(1)

    def dies(loss):
        if next(looks) == 5:
            raise KeyboardInterrupt
        return look(loss)

    monkeypatch.setattr(Loss, "alone", dies)
    with pytest.raises(KeyboardInterrupt):
        cli.main(words)
    shutil.rmtree(tmp_path / "other")
    shutil.copytree(trained("a"), tmp_path / "other")
    assert cli.main(words) == 2
    assert "holds the barrier to" in capsys.readouterr().err and next(looks) == 6
    shutil.rmtree(tmp_path / "other")
    shutil.copytree(trained("b"), tmp_path / "moved")
    assert cli.main([*words[:-1], str(tmp_path / "." / "moved") + "/"]) == 0


def test_a_file_of_another_probe_is_not_gone_on_with(trained, tmp_path, capsys):
    words = ["probe", str(trained("a")), "-o", str(tmp_path / "p.h5"), "--what", "sharpness"]
    assert cli.main([*words, "--samples", "20"]) == 0
    assert cli.main([*words, "--samples", "30"]) == 2
    assert cli.main([*words, "--samples", "20", "--epoch", "0"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "holds a probe of options samples 20, got 30; give another --output, or --restart" in said[0] and "a probe of weights" in said[1]
    assert cli.main([*words, "--samples", "30", "--restart"]) == 0
    (tmp_path / "p.h5").write_bytes((tmp_path / "p.h5").read_bytes()[:-50])
    assert cli.main([*words, "--samples", "30"]) == 2


def test_a_damaged_file_is_refused(trained, tmp_path):
    path, found = probe(trained("everything"), SerialComm(), output=tmp_path / "p.h5", options=Options(samples=20, what=("map",)))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-1], whole[:999] + bytes([whole[999] ^ 1]) + whole[1000:], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError):
            read_probe(path)
    for wrong in ({"xy": found.samples["xy"][:-1]}, {"lowest": np.array([10**6])}, {"image_of": found.samples["image_of"][:-1]}):
        write_probe(path, type(found)(found.about, found.sets, {**found.samples, **wrong}))
        with pytest.raises(InputError):
            read_probe(path)


def test_a_loss_without_curvature_has_none(bench, trained):
    path, stamp = checkpoint.of_epoch(trained("quadratic"))
    work = _Probe(load(trained("quadratic") / "config.toml", ["train.loss=test_landscape:absolute"]), path, stamp, Options(), SerialComm())
    loss = work.losses["full"]
    loss.try_out()
    assert not eigenvalues(loss.product, work.weights.size, 3, 0)[0].any() and loss.curve(signs(work.weights.size, 0, 0)) == 0


def test_a_model_that_cannot_be_differentiated_twice_is_bad_input(bench):
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return grad * 2

    work = bench("everything", samples=10)
    work.network.model.register_forward_hook(lambda module, inputs, output: Once.apply(output))
    with pytest.raises(InputError, match="the model cannot be differentiated twice"):
        work.losses["full"].try_out()


def test_one_rank_leads_the_iteration_and_all_serve_it(monkeypatch):
    """Products whose rounding differs from rank to rank: one ARPACK, as many collectives on every rank, and one result."""
    diagonal, runs = np.arange(1.0, 61.0), itertools.count()
    monkeypatch.setattr(lanczos, "eigsh", lambda *words, **more: (next(runs), eigsh(*words, **more))[1])

    def lead(comm):
        calls = itertools.count()

        def product(vector):
            next(calls)
            return comm.sum(diagonal * vector / comm.size) * (1 + 1e-9 * comm.rank)

        values, _ = served(lambda ask: eigenvalues(ask, 60, 3, 0), product, 60, comm)
        return values, next(calls)

    found = play(3, lead)
    assert next(runs) == 1 and len({calls for _, calls in found}) == 1
    for values, _ in found:
        np.testing.assert_allclose(values, [60, 59, 58], rtol=1e-4)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_refusal_of_the_rank_that_leads_is_one_of_all(monkeypatch, ranks):
    """A Hessian that is not finite, in the first product or a later one, and an ARPACK that breaks down."""

    def breaks(operator, *words, **more):
        operator.matvec(np.ones(30))
        raise ArpackError(-9999)

    def refused(comm, last):
        calls = itertools.count(1)

        def product(vector):
            return comm.sum(np.full(30, np.nan) if next(calls) == last else vector * np.arange(30))

        with pytest.raises(InputError) as caught:
            served(lambda ask: eigenvalues(ask, 30, 3, 0), product, 30, comm)
        assert caught.value.shared or comm.size == 1
        return str(caught.value)

    for last in (1, 4):
        assert {*play(ranks, lambda comm, last=last: refused(comm, last))} == {NOT_FINITE}
    monkeypatch.setattr(lanczos, "eigsh", breaks)
    (said,) = {*play(ranks, lambda comm: refused(comm, None))}
    assert "the Lanczos method breaks down on a matrix of 30 rows" in said and "\n" not in said


def test_a_curvature_that_was_killed_goes_on_where_it_was(trained, tmp_path, monkeypatch):
    """Killed behind the eigenvalues, and again at the 3rd of 4 vectors: no product is made twice."""
    options = Options(**QUICK, what=("curvature",))
    whole = probe(trained("a"), SerialComm(), output=tmp_path / "whole.h5", options=options)[1]
    monkeypatch.setattr("hpcfilter.landscape.file.EVERY", 0.0)
    curve, curves, products = Loss.curve, itertools.count(1), itertools.count()
    product = Loss.product

    def dies(loss, vector):
        if next(curves) in (1, 4):
            raise KeyboardInterrupt
        return curve(loss, vector)

    monkeypatch.setattr(Loss, "curve", dies)
    monkeypatch.setattr(Loss, "product", lambda loss, vector: (next(products), product(loss, vector))[1])
    for left in (4, 2):
        with pytest.raises(KeyboardInterrupt):
            probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=options)
        found = read_probe(tmp_path / "p.h5").sets["full"]
        assert np.array_equal(found["eigenvalues"], whole.sets["full"]["eigenvalues"])
        assert np.isnan(found.get("trace_terms", np.full(4, np.nan))).sum() == left
    made = next(products)
    probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=options)
    assert next(curves) == 2 * 4 + 2 + 1 and next(products) > made  # the eigenvalues of the other set
    same(whole.sets, read_probe(tmp_path / "p.h5").sets)


def test_the_trace_is_the_sum_of_the_diagonal(bench):
    work = bench("frozen", samples=60)
    loss, size = work.losses["full"], work.weights.size
    exact = sum(loss.curve(vector) for vector in np.eye(size))
    trace, error = hutchinson(np.array([loss.curve(signs(size, 3, number)) for number in range(100)]))
    assert abs(trace - exact) < 4 * error and 0 < error < 0.1 * exact


def test_a_policy_that_keeps_everything_at_the_end_is_asked_for_an_earlier_epoch(trained, tmp_path, capsys):
    """InfoBatch over 2 epochs trains all from epoch 1.75 on."""
    words = ["probe", str(trained("infobatch")), "-o", str(tmp_path / "p.h5"), "--what", "sharpness"]
    assert cli.main(words) == 0
    assert "after epoch 1 infobatch keeps everything; filtered: what it would keep in that epoch" in capsys.readouterr().out
    about = read_probe(tmp_path / "p.h5").about
    assert about["selection_epoch"] == 1 and about["epoch"] == 1 and 0 < about["kept"] < about["total"]
    three = play(3, lambda comm: probe(trained("infobatch"), comm, output=tmp_path / "3.h5", options=Options(what=("sharpness",)))[1])
    assert {found.about["selection"] for found in three} == {about["selection"]}


def test_a_probe_of_another_loss_is_not_gone_on_with(trained, tmp_path, capsys):
    words = ["probe", str(trained("a")), "-o", str(tmp_path / "p.h5"), "--what", "sharpness", "--samples", "20"]
    assert cli.main(words) == 0
    assert cli.main([*words, "--set", "train.label_smoothing=0.1"]) == 2
    assert "holds a probe of options train.label_smoothing 0.0, got 0.1" in capsys.readouterr().err
    assert cli.main([*words, "--set", "train.loss=reconstruction"]) == 2


def test_a_table_of_the_same_selection_may_lie_elsewhere(trained, tmp_path):
    run = str(trained("a"))
    words = ["probe", run, "-o", str(tmp_path / "p.h5"), "--what", "sharpness", "--samples", "1000000", "--selection"]
    assert cli.main(["score", run, "-o", str(tmp_path / "scores.h5")]) == 0
    assert cli.main(["select", str(tmp_path / "scores.h5"), "--fraction", "0.5"]) == 0
    assert cli.main([*words, str(tmp_path / "selection.h5")]) == 0
    (tmp_path / "selection.h5").rename(tmp_path / "moved.h5")
    assert cli.main([*words, str(tmp_path / "moved.h5")]) == 0
    assert "selection_epoch" not in read_probe(tmp_path / "p.h5").about


@pytest.mark.parametrize("settings, ranks, batch", [
    ({"global_batch": 60}, 1, 240), ({"global_batch": 61}, 2, 124), ({"batch": 32}, 8, 128), ({"batch": 200}, 1, 512),
    ({"batch": 200, "micro_batch": 8}, 1, 32)])
def test_so_many_samples_go_forward_as_have_fit_in_training(settings, ranks, batch):
    assert batch_of(Train(**settings), ranks) == batch


def test_what_does_not_fit_into_memory_is_one_line(trained, tmp_path, capsys, monkeypatch):
    """A stand-in for a GPU on which a graph of more than 8 samples does not fit, or more than 64 samples forward."""
    forward = Network.forward

    def small(network, x, y):
        if len(x) > (8 if torch.is_grad_enabled() and not torch.is_inference_mode_enabled() else 64):
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")
        return forward(network, x, y)

    words = ["probe", str(trained("everything")), "-o", str(tmp_path / "p.h5"), "--samples", "100", "--probes", "2", "--what", "curvature", "--batch"]
    monkeypatch.setattr(Network, "forward", small)
    for batch in (65, 100):
        assert cli.main([*words, str(batch)]) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert f"probe: --batch: {batch} samples do not fit into memory, give fewer" in said[-1] and "twice" not in said[-1]
    with pytest.raises(torch.OutOfMemoryError):
        _Probe(load(trained("everything") / "config.toml"), *checkpoint.of_epoch(trained("everything")), Options(batch=72), SerialComm()) \
            .losses["full"].try_out()
    assert cli.main([*words, "64"]) == 0


def test_weights_come_back_when_they_could_not_be_moved(bench, monkeypatch):
    weights, copy, copies = (work := bench("everything")).weights, torch.Tensor.copy_, itertools.count(1)

    def fails(tensor, other):
        if next(copies) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return copy(tensor, other)

    step, other = weights.direction(0, 0), {name: tensor + 1 for name, tensor in weights.state().items()}
    for move in (lambda: weights.moved((1.0, step)), lambda: weights.between(other, 0.5)):
        copies = itertools.count(1)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "copy_", fails)
            with pytest.raises(torch.OutOfMemoryError), move():
                pass
        weights.prove(f"a move of {work.network.model}")


@pytest.mark.parametrize("newer", [False, True])
def test_matrix_products_are_those_of_float32(trained, tmp_path, monkeypatch, newer):
    """Whichever of torch's two interfaces has asked for less, and they are as before afterwards."""
    seen, look, products = set(), Loss.shared, torch.backends.cuda.matmul
    monkeypatch.setattr(Loss, "shared", lambda loss: (seen.add(products.fp32_precision), look(loss))[1])
    torch.set_float32_matmul_precision("highest" if newer else "medium")
    if newer:
        products.fp32_precision = "tf32"
    try:
        probe(trained("everything"), SerialComm(), output=tmp_path / "p.h5", options=Options(samples=20, what=("sharpness",)))
        assert seen == {"ieee"} and products.fp32_precision == "tf32"
        assert newer or torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_map_says_what_a_regression_has_predicted_and_what_was_drawn(trained, bench, tmp_path):
    samples = probe(trained("single"), SerialComm(), output=tmp_path / "p.h5", options=Options(samples=10, what=("map",)))[1].samples
    work = bench("single")
    x, y = work.network.tensors(*work.dataset.train.rows(samples["index"]))
    np.testing.assert_allclose(samples["prediction"], work.network.model(x).detach().numpy()[:, 0], rtol=1e-5)
    np.testing.assert_allclose(samples["label"], y.numpy().reshape(-1), rtol=1e-6)
    assert samples["drawn"].sum() == 10 < len(samples["index"])
    assert set(samples["index"][samples["drawn"] == 1]) == set(chosen(np.arange(len(work.dataset.train)), 10, 3))
    same(samples, read_probe(tmp_path / "p.h5").samples | {name: samples[name] for name in ("around",)})


def test_a_probe_says_what_it_will_cost(trained, tmp_path, capsys):
    words = ["probe", str(trained("a")), "-o", str(tmp_path / "p.h5"), "--points", "5", "--directions", "2", "--grid", "3", "--probes", "2"]
    assert cli.main([*words, "--samples", "100", "--what", "slices"]) == 0
    assert cli.main([*words, "--samples", "100", "--what", "slices,curvature", "--eigenvalues", "5"]) == 0
    first, second = (line for line in capsys.readouterr().err.splitlines() if line.startswith("probe: "))
    assert first == "probe: 38 points and about 0 Hessian products to come: 38 forward passes or more over 100 samples, shared by the ranks"
    assert "probe: 0 points and about 64 Hessian products" in second
    assert cli.main([*words, "--samples", "100", "--what", "slices"]) == 0 and "forward passes" not in capsys.readouterr().err


def test_what_a_killed_probe_has_left_goes_with_the_next(trained, tmp_path):
    for name in ("p.h5.part12", "q.h5.part12"):
        (tmp_path / name).write_bytes(b"half")
    probe(trained("everything"), SerialComm(), output=tmp_path / "p.h5", options=Options(samples=20, what=("sharpness",)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.h5", "q.h5.part12"]


def test_a_probe_goes_on_with_another_number_of_ranks(trained, tmp_path, monkeypatch):
    options = Options(**QUICK, what=("curvature", "slices"))
    whole = probe(trained("a"), SerialComm(), output=tmp_path / "whole.h5", options=options)[1]
    monkeypatch.setattr("hpcfilter.landscape.file.EVERY", 0.0)
    for ranks, name, deadly in ((3, "curve", 2), (2, "alone", 4)):
        do, calls = getattr(Loss, name), itertools.count(1)

        def dies(*words, do=do, calls=calls, last=deadly * ranks):
            if next(calls) == last:
                raise KeyboardInterrupt
            return do(*words)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Loss, name, dies)
            play(ranks, lambda comm: probe(trained("a"), comm, output=tmp_path / "p.h5", options=options))
    found = probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=options)[1]
    same(whole.sets, found.sets, 1e-4)
    same(whole.sets, read_probe(tmp_path / "p.h5").sets, 1e-4)


@pytest.mark.parametrize("method, call", [("curve", 3), ("alone", 4)])
def test_real_ranks_that_are_killed_leave_what_the_next_go_on_with(trained, tmp_path, program, hpcfilter, method, call):
    """Killed inside curvature, and inside slices."""
    path, what = tmp_path / "p.h5", ("curvature", "slices")
    words = [trained("a"), "-o", path, "--what", ",".join(what), *(word for name, value in QUICK.items() for word in (f"--{name}", str(value)))]
    assert program(2, "probe_dies", method, call, *words).returncode != 0
    before = read_probe(path).sets["full"]
    known = before["trace_terms"] if method == "curve" else before["slice1d"]["loss"]
    assert 0 < np.isnan(known).sum() < known.size
    Path(f"{path}.part1").write_bytes(b"half")
    ok(hpcfilter(2, "probe", *words))
    after = read_probe(path).sets
    assert np.array_equal(before["eigenvalues"], after["full"]["eigenvalues"]) and list(tmp_path.iterdir()) == [path]
    same(probe(trained("a"), SerialComm(), output=tmp_path / "whole.h5", options=Options(**QUICK, what=what))[1].sets, after, 1e-4)
