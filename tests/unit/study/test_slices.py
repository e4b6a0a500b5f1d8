"""The loss around and between weights: directions, slices and what is read off them, the barrier, and weights
that come back after every move."""

import itertools
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from landscapes import QUICK
from torch import nn

from hpcfilter import cli
from hpcfilter.base.errors import BrokenInvariant
from hpcfilter.comm import SerialComm
from hpcfilter.study.landscape import Options, probe
from hpcfilter.study.landscape.barrier import statistics_of
from hpcfilter.study.landscape.loss import Loss
from hpcfilter.study.landscape.shape import flat_share, minima, minima_of_plane, roughness
from hpcfilter.study.landscape.weights import Weights
from hpcfilter.study.report import read_run


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
    found = probe(trained("a"), SerialComm(), output=tmp_path / "p.h5",
                  options=Options(**QUICK, what=("slices",)))[1]
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
    assert (list(line["position"]) == [-1, -0.5, 0, 0.5, 1]
            and found.sets["full"]["loss"] != found.sets["filtered"]["loss"])


def test_minima_roughness_and_flatness_of_known_shapes():
    x = np.linspace(-1, 1, 201)
    for curve, wanted in ((x**2, 1), (x, 0), (np.cos(4 * np.pi * x), 4), (np.zeros(5), 0),
                          ([3, 1, 1, 2, 0, 0], 1), ([1, 2, 3], 0), ([2, 1, np.inf], 1)):
        assert minima(np.array(curve)) == wanted
    assert (roughness(x**2) == pytest.approx(0, abs=1e-12) and roughness(x) == 0
            and roughness(np.zeros(3)) == 0)
    assert (roughness(np.array([2.0, 0.0, 1.0, 0.0, 2.0])) == 1.0
            and np.isnan(roughness(np.array([1.0, np.inf]))))
    assert roughness(x**2 + 0.05 * np.cos(40 * x)) > 0.5
    a, b = x[::10, None], x[None, ::10]
    assert (minima_of_plane(a**2 + b**2) == 1 and minima_of_plane(a + b) == 0
            and minima_of_plane((a**2 - 0.25) ** 2 + b**2) == 2)
    plateau = np.full((6, 6), 2.0)
    plateau[2:4, 2:4] = 1
    assert minima_of_plane(plateau) == 1
    plateau[4:, 3] = 1  # reaches the edge
    assert minima_of_plane(plateau) == 0 and minima_of_plane(np.full((5, 5), np.inf)) == 0
    assert flat_share(10 * (a**2 + b**2)) == np.mean(a**2 + b**2 <= 0.01)


def test_weights_that_do_not_come_back_stop_the_probe(trained, tmp_path, monkeypatch):
    @contextmanager
    def stays(weights):
        yield

    monkeypatch.setattr(Weights, "restored", stays)
    with pytest.raises(BrokenInvariant, match="slices has left weights of digest .* a probe leaves no trace"):
        probe(trained("a"), SerialComm(), output=tmp_path / "p.h5",
              options=Options(**QUICK, what=("slices",)))


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


def test_the_barrier_to_oneself_is_zero_and_to_another_run_is_not(trained, tmp_path):
    barriers = {}
    for other in "ab":
        options = Options(samples=300, what=("barrier",), other=str(trained(other)))
        found = probe(trained("a"), SerialComm(), output=tmp_path / f"{other}.h5", options=options)[1]
        barriers[other] = found.sets["full"]["barrier"]
        assert (barriers[other]["other"] == str(trained(other))
                and barriers[other]["weights"] == read_run(trained(other))[2]["weights"])
        assert barriers[other]["alpha"][[0, -1]].tolist() == [0, 1]
    assert barriers["a"]["barrier"] == pytest.approx(0, abs=1e-12) and barriers["b"]["barrier"] > 0.1
    assert barriers["b"]["loss"][-1] == barriers["a"]["loss"][0]  # alpha = 1 is this run
    assert set(found.sets["full"]) == {"loss", "error", "barrier"} and found.samples is None


def test_other_weights_must_fit(trained, tmp_path, capsys):
    words = ["-o", str(tmp_path / "p.h5"), "--samples", "20", "--what", "barrier", "--other"]
    assert cli.main(["probe", str(trained("a")), *words, str(trained("everything"))]) == 2
    assert cli.main(["probe", str(trained("a")), *words, str(trained("b"))]) == 0
    assert cli.main(["probe", str(trained("a")), *words, str(trained("a"))]) == 2
    said = capsys.readouterr().err
    assert "it belongs to another model" in said and "holds the barrier to" in said


def test_a_barrier_goes_on_to_the_same_weights_only(trained, tmp_path, capsys, monkeypatch):
    """The digest of the other weights counts, not the path of their run."""
    words = ["probe", str(trained("a")), "-o", str(tmp_path / "p.h5"), "--samples", "20", "--what", "barrier",
             "--other", str(tmp_path / "other")]
    shutil.copytree(trained("b"), tmp_path / "other")
    monkeypatch.setattr("hpcfilter.study.landscape.file.EVERY", 0.0)
    look, looks = Loss.alone, itertools.count(1)

    def dies(loss):
        if next(looks) == 5:
            raise KeyboardInterrupt
        return look(loss)

    monkeypatch.setattr(Loss, "alone", dies)
    assert cli.main(words) == 130
    shutil.rmtree(tmp_path / "other")
    shutil.copytree(trained("a"), tmp_path / "other")
    assert cli.main(words) == 2
    assert "holds the barrier to" in capsys.readouterr().err and next(looks) == 6
    shutil.rmtree(tmp_path / "other")
    shutil.copytree(trained("b"), tmp_path / "moved")
    assert cli.main([*words[:-1], str(tmp_path / "." / "moved") + "/"]) == 0


def test_statistics_of_batch_normalisation_are_taken_anew(bench):
    work = bench("a")
    network, layer = work.network, next(m for m in work.network.model.modules()
                                        if isinstance(m, nn.BatchNorm2d))
    seen = []
    hook = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    modes = [m.training for m in network.model.modules()]
    with work.weights.restored():
        layer.running_mean.fill_(7)
        statistics_of(network, work.dataset.train, 0, 256)()
        hook.remove()
        assert len(seen) == 1438 // 256 and {len(batch) for batch in seen} == {256}
        torch.testing.assert_close(layer.running_mean,
                                   torch.stack([batch.mean((0, 2, 3)) for batch in seen]).mean(0),
                                   rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.running_var,
                                   torch.stack([batch.var((0, 2, 3)) for batch in seen]).mean(0),
                                   rtol=1e-4, atol=1e-5)
    work.weights.prove("the statistics")
    assert modes == [m.training for m in network.model.modules()] and layer.momentum == 0.1
