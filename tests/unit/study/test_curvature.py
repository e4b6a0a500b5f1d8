"""The curvature of the loss: eigenvalues and trace of the Hessian, who leads the search for them, how it
resumes, and when there is none."""

import itertools

import numpy as np
import pytest
import torch
from landscapes import QUICK, same
from scipy.sparse.linalg import ArpackError, eigsh
from torch import nn

from hpcfilter import cli
from hpcfilter.base.errors import InputError, Interrupted
from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run as play
from hpcfilter.data import read_probe
from hpcfilter.study.landscape import Options, lanczos, probe
from hpcfilter.study.landscape.curvature import TOLERANCE, eigenvalues, hutchinson, signs
from hpcfilter.study.landscape.lanczos import largest
from hpcfilter.study.landscape.loss import Loss
from hpcfilter.study.landscape.probe import _Probe
from hpcfilter.study.landscape.service import NOT_FINITE, served
from hpcfilter.study.landscape.sharpness import sharpness
from hpcfilter.train import checkpoint
from hpcfilter.train.config import load
from hpcfilter.train.network import Network


def test_a_quadratic_loss_has_the_curvature_that_it_must_have(bench):
    """The mean squared error of a linear model with 2 outputs: its Hessian is that of each output, the second
    moment of the samples with a 1."""
    work = bench("quadratic", eigenvalues=4)
    for loss in work.losses.values():
        x, y = (part.double().numpy() for part in work.network.tensors(*work.dataset.train.rows(loss.index)))
        wide = np.c_[x, np.ones(len(x))]
        moment = wide.T @ wide / len(x)
        block = np.kron(np.eye(2), moment)  # of (weight row, bias) of each output
        # as torch has them: all weights, then both biases
        order = [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 6, 13]
        hessian = block[np.ix_(order, order)]
        values, residuals = eigenvalues(loss.product, work.weights.size, 4, 0)
        np.testing.assert_allclose(values, np.linalg.eigvalsh(hessian)[::-1][:4], rtol=1e-5)
        assert (residuals <= TOLERANCE * values).all()
        np.testing.assert_allclose([loss.curve(vector) for vector in np.eye(14)],
                                   hessian.diagonal(), rtol=1e-5)
        trace, error = hutchinson(np.array([loss.curve(signs(14, 0, number)) for number in range(200)]))
        assert abs(trace - np.trace(hessian)) < 4 * error and 0 < error < 0.1 * trace
        weight, bias = (p.detach().double().numpy() for p in work.weights.parameters)
        rest = x @ weight.T + bias - y
        gradient = np.concatenate([(rest.T @ x).ravel(), rest.sum(0)]) / len(x)
        np.testing.assert_allclose(loss.gradient(), gradient, atol=1e-6)
        length, rho, base = np.linalg.norm(gradient), 0.5, loss.shared()[0]
        assert base == pytest.approx((rest**2).mean(), rel=1e-5)
        rise = sharpness(work.weights, loss, base, rho)["sharpness"]
        assert rise == pytest.approx(rho * length + rho**2 / 2 * gradient @ hessian @ gradient / length**2,
                                     rel=1e-4)


def test_random_signs_are_a_function_of_seed_and_number():
    draws = np.array([signs(1000, 1, number) for number in range(3)])
    assert set(draws.ravel()) == {-1.0, 1.0} and (np.abs(draws.mean(1)) < 0.15).all()
    assert (np.array_equal(draws[1], signs(1000, 1, 1)) and not np.array_equal(draws[0], draws[1])
            and np.array_equal(draws[0][:10], signs(10, 1, 0)))


# of a library that curvlinops imports
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("name", ["a", "everything", "frozen"])
def test_eigenvalues_are_those_of_curvlinops(bench, name):
    curvlinops = pytest.importorskip("curvlinops", reason="curvlinops-for-pytorch is not installed: "
                                                          "no other library to compare with")
    from scipy.sparse.linalg import eigsh

    work = bench(name)
    loss = work.losses["filtered"]
    data = [work.network.tensors(*work.dataset.train.rows(part)) for part in np.array_split(loss.index, 3)]
    used = [p for name, p in work.network.model.named_parameters() if p.requires_grad and name != "idle"]
    theirs = eigsh(curvlinops.HessianLinearOperator(work.network.model, nn.CrossEntropyLoss(),
                                                    used, data).to_scipy(), 5, which="LA")[0][::-1]
    np.testing.assert_allclose(eigenvalues(loss.product, work.weights.size, 5, 0)[0], theirs, rtol=1e-4)


def test_the_trace_is_the_sum_of_the_diagonal(bench):
    work = bench("frozen", samples=60)
    loss, size = work.losses["full"], work.weights.size
    exact = sum(loss.curve(vector) for vector in np.eye(size))
    trace, error = hutchinson(np.array([loss.curve(signs(size, 3, number)) for number in range(100)]))
    assert abs(trace - exact) < 4 * error and 0 < error < 0.1 * exact


def test_channels_last_and_half_precision_leave_the_curvature_as_it_is(bench, trained):
    path, stamp = checkpoint.of_epoch(trained("a"))
    found = []
    for settings in ([], ["train.channels_last=true"], ["train.precision=bfloat16"]):
        work = _Probe(load(trained("a") / "config.toml", settings), path, stamp, Options(samples=100),
                      SerialComm())
        found.append(work.losses["full"].curve(signs(work.weights.size, 0, 0)))
    assert found[1] == pytest.approx(found[0], rel=1e-5) and found[2] == pytest.approx(found[0], rel=1e-5)


def test_ranks_that_run_out_of_vectors_take_the_same_new_ones():
    """After a single step the Lanczos method has all that a vector tells of these matrices, and goes
    on with a random one."""
    for diagonal in (np.full(30, 2.0), np.repeat([3.0, 1.0], 20)):
        one, two = (largest(lambda vector, d=diagonal: d * vector, len(diagonal), 5, 1, TOLERANCE)
                    for _ in range(2))
        assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])
        np.testing.assert_allclose(one[0], diagonal[:5], rtol=1e-6)


def test_one_rank_leads_the_iteration_and_all_serve_it(monkeypatch):
    """Products whose rounding differs from rank to rank: one ARPACK, as many collectives on every
    rank, and one result."""
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
    monkeypatch.setattr("hpcfilter.study.landscape.file.EVERY", 0.0)
    curve, curves, products = Loss.curve, itertools.count(1), itertools.count()
    product = Loss.product

    def dies(loss, vector):
        if next(curves) in (1, 4):
            raise KeyboardInterrupt
        return curve(loss, vector)

    monkeypatch.setattr(Loss, "curve", dies)
    monkeypatch.setattr(Loss, "product", lambda loss, vector: (next(products), product(loss, vector))[1])
    for left in (4, 2):
        with pytest.raises(Interrupted):
            probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=options)
        found = read_probe(tmp_path / "p.h5").sets["full"]
        assert np.array_equal(found["eigenvalues"], whole.sets["full"]["eigenvalues"])
        assert np.isnan(found.get("trace_terms", np.full(4, np.nan))).sum() == left
    made = next(products)
    probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=options)
    assert next(curves) == 2 * 4 + 2 + 1 and next(products) > made  # the eigenvalues of the other set
    same(whole.sets, read_probe(tmp_path / "p.h5").sets)


def test_a_loss_without_curvature_has_none(bench, trained):
    path, stamp = checkpoint.of_epoch(trained("quadratic"))
    work = _Probe(load(trained("quadratic") / "config.toml", ["loss.name=landscapes:absolute"]), path, stamp,
                  Options(), SerialComm())
    loss = work.losses["full"]
    loss.try_out()
    assert (not eigenvalues(loss.product, work.weights.size, 3, 0)[0].any()
            and loss.curve(signs(work.weights.size, 0, 0)) == 0)


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


def test_what_does_not_fit_into_memory_is_one_line(trained, tmp_path, capsys, monkeypatch):
    """A stand-in for a GPU on which a graph of more than 8 samples does not fit, or more
    than 64 samples forward."""
    forward = Network.forward

    def small(network, x, y):
        if len(x) > (8 if torch.is_grad_enabled() and not torch.is_inference_mode_enabled() else 64):
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")
        return forward(network, x, y)

    words = ["probe", str(trained("everything")), "-o", str(tmp_path / "p.h5"), "--samples", "100",
             "--probes", "2", "--what", "curvature", "--batch"]
    monkeypatch.setattr(Network, "forward", small)
    for batch in (65, 100):
        assert cli.main([*words, str(batch)]) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert (f"probe: --batch: {batch} samples do not fit into memory, give fewer" in said[-1]
                and "twice" not in said[-1])
    with pytest.raises(torch.OutOfMemoryError):
        _Probe(load(trained("everything") / "config.toml"), *checkpoint.of_epoch(trained("everything")),
               Options(batch=72), SerialComm()).losses["full"].try_out()
    assert cli.main([*words, "64"]) == 0
