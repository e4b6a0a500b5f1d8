"""How ranks come to agree on weights: what every exchange must have, and what the kinds say of themselves. On
ranks: test_large_batch."""

from types import SimpleNamespace

import pytest
import torch

from hpcfilter.base.errors import InputError
from hpcfilter.comm import SerialComm
from hpcfilter.train.exchange import EXCHANGES, Exchange, check_adasum, make_exchange
from hpcfilter.train.exchange.adasum import Adasum
from hpcfilter.train.exchange.allreduce import Allreduce
from hpcfilter.train.exchange.engine import Alone, Engine
from hpcfilter.train.exchange.exchange import accumulate
from hpcfilter.train.schema import Exchange as Chosen

NEEDED = {"prepare", "divisor"}
BATCH = SimpleNamespace(total=120.0)
ALONE = Alone(SerialComm())


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_an_exchange_that_lacks_a_method_cannot_be_made(name):
    """What is missing would leave the ranks silently apart."""
    assert Exchange.__abstractmethods__ == NEEDED
    whole = {other: lambda self, *arguments: None for other in NEEDED if other != name}
    with pytest.raises(TypeError, match=f"abstract .*'?{name}'?"):
        type("Lacking", (Exchange,), whole)(SerialComm(), ALONE)


@pytest.mark.parametrize("name", sorted(Engine.__abstractmethods__))
def test_an_engine_that_lacks_a_method_cannot_be_made(name):
    whole = {other: lambda self, *arguments: None for other in Engine.__abstractmethods__ if other != name}
    with pytest.raises(TypeError, match=f"abstract .*'?{name}'?"):
        type("Lacking", (Engine,), whole)(SerialComm())


@pytest.mark.parametrize("kind", EXCHANGES)
def test_one_rank_needs_no_horovod(kind):
    """Nothing is to be agreed on: the optimiser is the one that was given, and its step is a step."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    exchange, optimizer = (make_exchange(Chosen(kind=kind), SerialComm(), ALONE),
                           torch.optim.SGD(model.parameters(), lr=0.5))
    assert (exchange.prepare(model, optimizer) is optimizer and exchange.equal_after_step
            and exchange.divisor(BATCH) == 120)
    before, buffers = model[0].weight.detach().clone(), {name: buffer.clone()
                                                         for name, buffer in model.named_buffers()}
    exchange.broadcast(model)
    exchange.backward(model[0](torch.ones(4, 3)).sum(), model, last=True)
    exchange.finish(optimizer)
    exchange.step(optimizer)
    assert torch.allclose(model[0].weight, before - 0.5 * 4)
    exchange.settle(model, 1.0)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    exchange.release(optimizer)


def test_what_a_rank_divides_by_and_what_it_sends():
    ranks, model = SimpleNamespace(size=4), torch.nn.Linear(3, 2)
    found = {name: Allreduce(ranks, ALONE, **keys) for name, keys in {"sum": {}, "mean": {"average": True},
                                                               "half": {"compression": "fp16"}}.items()}
    assert [exchange.divisor(BATCH) for exchange in found.values()] == [120, 30, 30], (
        "float16 has no digits for a small part of a small number")
    assert [exchange.scale_to_mean for exchange in found.values()] == [4, 1, 1]
    assert [exchange.bytes(model) for exchange in found.values()] == [32, 32, 16]
    model.bias.requires_grad_(False)
    assert found["sum"].bytes(model) == 24, "what is not trained is not sent"
    assert Adasum(ranks, ALONE).divisor(BATCH) == 30, "of the rank's own samples"


def test_gradients_of_parts_are_added_up_without_messages():
    model, hooks = torch.nn.Linear(3, 2), []
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(hooks.append)
    accumulate(model(torch.ones(2, 3)).sum(), model)
    accumulate(model(torch.ones(3, 3)).sum(), model)
    assert (torch.equal(model.weight.grad, torch.full((2, 3), 5.0))
            and torch.equal(model.bias.grad, torch.full((2,), 5.0)) and hooks == [])


def test_its_state_is_its_own():
    exchange = Allreduce(SerialComm(), ALONE)
    exchange.restore(exchange.state())
    with pytest.raises(KeyError, match="got a state of .*momentum"):
        exchange.restore({"momentum": 1})


def test_what_may_stand_in_the_table():
    for table, message in (
            ({"kind": "allreduced"},
             "exchange.kind: unknown 'allreduced'; known: adasum, allreduce; did you mean"),
            ({"compresion": "fp16"}, "exchange.compresion: unknown key; known: average, compression"),
            ({"compression": "fp8"}, "exchange.compression: expected 'none', 'fp16' or 'bf16', got 'fp8'"),
            ({"average": 3}, "exchange.average: expected true or false, got 3")):
        with pytest.raises(InputError, match=message):
            make_exchange(Chosen(**table), SerialComm(), ALONE)
    with pytest.raises(InputError, match="exchange.kind: adasum goes in pairs of pairs and needs 1, 2, 4, 8, "
                                         "... nodes, got 6"):
        check_adasum(6, "nodes")
