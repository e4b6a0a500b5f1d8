"""Learning rate, batch size, optimisers, extrapolation and noise scale against the equations
of their papers."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hpcfilter.base.errors import InputError
from hpcfilter.train.optim import NoiseScale, batch_size, learning_rate, make_optimizer, rate_ratios, set_rate
from hpcfilter.train.passes import Plain
from hpcfilter.train.passes.extrapolate import Extrapolate
from hpcfilter.train.schema import Optim, Schedule, Train


def rates(*moments, global_batch=256, lr_scaling="linear", **keys):
    optim, schedule = Optim(lr=0.1, lr_batch=256, lr_scaling=lr_scaling), Schedule(**keys)
    return [learning_rate(optim, schedule, global_batch, moment, epochs=10) for moment in moments]


def test_warm_up_is_a_straight_line_to_the_scaled_rate():
    assert rates(0, 1, 2, global_batch=1024, warmup_epochs=2,
                 name="constant") == pytest.approx([0.1, 0.25, 0.4])
    assert rates(0, 1, 2, global_batch=64, warmup_epochs=2,
                 name="constant") == pytest.approx([0.025, 0.025, 0.025])
    assert rates(0, 5, global_batch=1024, warmup_epochs=0, name="constant", lr_scaling="none") == [0.1, 0.1]
    assert rates(0, 1, 2, warmup_epochs=2, warmup_lr=0, name="constant") == pytest.approx([0, 0.05, 0.1])


def test_cosine_falls_from_the_peak_to_zero():
    assert rates(0, 5, 10, warmup_epochs=0) == pytest.approx([0.1, 0.05, 0])
    assert rates(2, 6, 10, warmup_epochs=2) == pytest.approx([0.1, 0.05, 0])


def test_steps_fall_at_the_milestones():
    step = {"name": "step", "warmup_epochs": 0, "milestones": [0.3, 0.6], "gamma": 0.1}
    assert rates(0, 2.99, 3, 5.9, 6, 9, **step) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_square_root_scaling_and_polynomial_decay():
    assert rates(0, global_batch=1024, warmup_epochs=0, name="constant",
                 lr_scaling="sqrt") == pytest.approx([0.2])
    assert rates(2, 6, 10, warmup_epochs=2, name="polynomial") == pytest.approx([0.1, 0.025, 0])
    assert rates(6, warmup_epochs=2, name="polynomial", power=1) == pytest.approx([0.05])


def test_the_batch_grows_geometrically():
    train = Train(ramp_batch=64, ramp_epochs=4)
    assert [batch_size(train, 1024, epoch) for epoch in (0, 1, 2, 3, 4, 9)] == [64, 128, 256, 512, 1024, 1024]
    assert batch_size(Train(), 1024, 0) == 1024


def stepped(optim, weights, gradients, rate):
    """The weights after steps with given gradients."""
    model = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(part)) for part in weights])
    optimizer = make_optimizer(model, optim)
    for group in optimizer.param_groups:
        group["lr"] = rate
    for step in gradients:
        for parameter, gradient in zip(model, step, strict=True):
            parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return [parameter.detach().numpy() for parameter in model]


W = [np.array([[3.0, -4.0]], np.float32), np.array([1.0], np.float32)]  # a matrix, a vector
G = [[np.array([[0.6, 0.8]], np.float32), np.array([0.5], np.float32)],
     [np.array([[0.0, 2.0]], np.float32), np.array([-0.5], np.float32)]]


def test_lars_follows_its_equation():
    """g' = trust |w| / (|g| + decay |w|) (g + decay w) for matrices and g for vectors, then
    Nesterov's momentum."""
    decay, trust, m, rate = 0.1, 0.02, 0.9, 0.5
    got = stepped(Optim(name="lars", trust=trust, momentum=m, weight_decay=decay), W, G, rate)
    for number, begin in enumerate(W):
        w, v = begin.astype(np.float64), 0.0
        for step in G:
            g = step[number].astype(np.float64)
            if w.ndim > 1:
                g = (trust * np.linalg.norm(w) / (np.linalg.norm(g) + decay * np.linalg.norm(w))
                     * (g + decay * w))
            v = m * v + g
            w = w - rate * (g + m * v)
        np.testing.assert_allclose(got[number], w, rtol=1e-5)


def test_lamb_follows_its_equation():
    """u = m / (sqrt v + eps) + decay w; w <- w - rate |w| / |u| u."""
    decay, rate = 0.1, 0.05
    got = stepped(Optim(name="lamb", weight_decay=decay), W, G, rate)
    for number, begin in enumerate(W):
        w, m, v = begin.astype(np.float64), 0.0, 0.0
        for step in G:
            g = step[number].astype(np.float64)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            u = m / (np.sqrt(v) + 1e-6) + decay * w
            w = w - rate * np.linalg.norm(w) / np.linalg.norm(u) * u
        np.testing.assert_allclose(got[number], w, rtol=1e-4)


def test_an_optimiser_of_ones_own():
    assert isinstance(make_optimizer(torch.nn.Linear(2, 2), Optim(name="custom:adam")), torch.optim.Adam)
    with pytest.raises(InputError,
                       match="optim.name: unknown 'adagard'; known: adadelta, adafactor, adagrad, adam"):
        make_optimizer(torch.nn.Linear(2, 2), Optim(name="adagard"))


@pytest.mark.parametrize("made, expected", [
    ((0.001, 0.1), (0.01, 1)), ((0.1, 0.1), (1, 1)), ((0.0, 0.0), (1, 1)), ((0.0, 0.3), (0, 1)),
    ((3.0, 1.5), (1, 0.5)), ((torch.tensor(0.02), 0.04), (0.5, 1)), ((None, None), (1, 1)),
])
def test_each_parameter_group_keeps_its_part_of_the_rate(made, expected):
    """A factory's groups keep the ratio of their rates; equal ones, and those still to be set, get the
    rate itself, bit for bit."""
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": lr} for lr in made]
    optimizer = torch.optim.SGD([{**group, "lr": 0.0 if group["lr"] is None else group["lr"]}
                                 for group in groups], foreach=False)
    for group, lr in zip(optimizer.param_groups, made, strict=True):
        group["lr"] = lr  # None: of an optimiser that makes do without
    ratios = rate_ratios(optimizer)
    assert ratios == pytest.approx(expected) and max(ratios) == 1.0
    for rate in (0.1 / 3, 0.0, 7.3):
        set_rate(optimizer, rate, ratios)
        assert [group["lr"] for group in optimizer.param_groups] == [rate * ratio for ratio in ratios]
        assert rate in [group["lr"] for group in optimizer.param_groups]


class Quadratic(torch.nn.Module):
    """loss = curvature / 2 * w^2, so that a gradient is curvature * w."""

    def __init__(self, curvature=2.0):
        super().__init__()
        self.w, self.curvature = torch.nn.Parameter(torch.ones(1, dtype=torch.float64)), curvature

    def loss(self):
        return (self.curvature / 2 * self.w**2).sum()


class Whole:
    """A step whose loss is of the weights alone. loss: function that gives it, a tensor ()."""

    def __init__(self, loss, rate=0.1, seed=0):
        self.loss, self.rate, self.seed = loss, rate, seed

    def forward(self, x, y):
        return self.loss().reshape(1)

    losses = forward

    def backward(self, loss, last):
        loss.backward()


PARTS = [(None, None, torch.ones(1))]  # one sample that nothing is read of


def extrapolate(inner, model, direction, distance, share=1, ratios=None):
    return Extrapolate(inner, model, SimpleNamespace(scale_to_mean=share), ratios or {}, direction=direction,
                       distance=distance)


def extrapolated(kind, factor, rate=0.1, steps=4):
    """The weights of plain steps with gradients from a little way off, on one rank."""
    model, weights = Quadratic().float(), []
    way = extrapolate(Plain(), model, kind, factor)
    for step in range(steps):
        model.w.grad = None
        way(Whole(model.loss, rate, seed=step), PARTS)
        with torch.no_grad():
            model.w -= rate * model.w.grad
        weights.append(float(model.w.detach()))
    return weights


class There(Plain):
    """Notes the weights that it finds, before the pass."""

    def __call__(self, step, parts):
        self.weights = [parameter.detach().clone() for parameter in self.model.parameters()]
        super().__call__(step, parts)

    def __init__(self, model):
        self.model = model


def test_extrapolation_with_the_past_gradient_is_its_recursion():
    w, past, expected = 1.0, 0.0, []
    for _ in range(4):
        past = 2.0 * (w - 0.5 * 0.1 * past)
        w -= 0.1 * past
        expected.append(w)
    assert extrapolated("past", 0.5) == pytest.approx(expected)


def test_extrapolation_with_a_fresh_gradient_contracts_as_extragradient():
    """On a quadratic w <- w (1 - rate c (1 - e c))."""
    assert extrapolated("fresh", 0.5)[-1] == pytest.approx((1 - 0.1 * 2 * (1 - 0.05 * 2)) ** 4)


def test_extrapolation_goes_each_parameters_own_rates_off():
    """A trunk at a hundredth of the rate goes a hundredth of the way off."""
    model, rate = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(3)),
                                          torch.nn.Parameter(torch.ones(2))]), 0.1
    for ratios in ({model[0]: 0.01, model[1]: 1.0}, None):
        there = There(model)
        extrapolate(there, model, "fresh", 0.5, share=2,
                    ratios=ratios)(Whole(lambda: sum(part.square().sum() for part in model), rate), PARTS)
        ways = [1 - part for part in there.weights]
        assert torch.allclose(ways[1], torch.full((2,), 0.5 * rate * 2 * 2))
        assert torch.allclose(ways[0], torch.full((3,), 0.5 * rate * 2 * 2 * (0.01 if ratios else 1)))
        assert all(torch.equal(part, torch.ones_like(part)) for part in model), "back"


def test_extrapolation_with_noise_is_as_long_as_the_past_gradient():
    model = torch.nn.Linear(30, 20)
    there = There(model)
    way = extrapolate(there, model, "noise", 2.0, share=3)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    way(Whole(lambda: model(torch.ones(4, 30)).square().sum(), seed=1), PARTS)
    assert all(torch.equal(a, b) for a, b in zip(before, there.weights, strict=True)), "there is no past yet"
    gradients, past, ways = [parameter.grad.clone()
                             for parameter in model.parameters()], model.past_gradient.clone(), []
    assert torch.equal(past, torch.cat([gradient.flatten() for gradient in gradients]))
    for seed in (1, 1, 2):
        model.past_gradient.copy_(past)
        way(Whole(lambda: model(torch.ones(4, 30)).square().sum(), seed=seed), PARTS)
        ways.append(there.weights)
    same = [all(torch.equal(a, b) for a, b in zip(ways[0], way, strict=True)) for way in ways]
    assert same == [True, True, False]
    for way, old, gradient in zip(ways[0], before, gradients, strict=True):
        assert float((way - old).norm()) == pytest.approx(2.0 * 0.1 * 3 * float(gradient.norm()), rel=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)), "back"
    assert set(model.state_dict()) == {"weight", "bias"}, "checkpoints of the weights do not know of it"


def test_another_pass_finds_the_model_as_it_was():
    model = torch.nn.Linear(3, 2)
    for kind in ("past", "fresh", "noise"):
        way = extrapolate(Plain(), model, kind, 0.5)
        way.release()
        assert (dict(model.named_buffers()) == {}
                and not any(parameter._backward_hooks for parameter in model.parameters()))


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_noise_scale_of_a_known_gradient(ranks):
    """Gradients of mean G and variance 4 per component and sample: tr(Sigma) = 200, |G|^2 =
    2, noise scale 100."""
    size, batch, rng, ours = 50, 64, np.random.default_rng(1), []
    mean = np.full(size, 0.2)
    parameters = [torch.nn.Parameter(torch.zeros(size, dtype=torch.float64)) for _ in range(ranks)]
    meters = [NoiseScale(torch.nn.ParameterList([parameter]), ranks) for parameter in parameters]
    for _ in range(400):
        for parameter in parameters:  # a rank's part of the mean over the batch
            sample_mean = mean + rng.normal(size=size) * 2 / math.sqrt(batch / ranks)
            parameter.grad = None
            (parameter * torch.tensor(sample_mean / ranks)).sum().backward()
        total = sum(parameter.grad for parameter in parameters)
        for parameter, meter in zip(parameters, meters, strict=True):
            parameter.grad = total
            meter.step()

    class Comm:
        size = ranks

        def sum(self, array):
            ours.append(array)
            return np.sum(ours, axis=0)

    *_, found = [meter.take(Comm(), batch) for meter in meters]
    assert found["variance"] == pytest.approx(200, rel=0.05)
    assert found["gradient"] == pytest.approx(2, rel=0.1)
    assert found["noise_scale"] == pytest.approx(100, rel=0.15)
