"""ExtrapSGD on ranks whose losses have different curvatures: extrapolated.py KIND prints the weights
of four steps as JSON."""

import json
import sys
from types import SimpleNamespace

from hpcfilter.comm import world

comm = world()
import torch  # noqa: E402  after mpi4py

from hpcfilter.train.exchange import engine_of, make_exchange  # noqa: E402
from hpcfilter.train.passes import Plain  # noqa: E402
from hpcfilter.train.passes.extrapolate import Extrapolate  # noqa: E402
from hpcfilter.train.schema import Exchange  # noqa: E402
from hpcfilter.train.step import Step  # noqa: E402

model, rate, curvature = (torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.ones(1))}), 0.1,
                          comm.rank + 1.0)
table = Exchange()
exchange = make_exchange(table, comm, engine_of(table, comm, torch.device("cpu")))
extrapolate = Extrapolate(Plain(), model, exchange, {}, direction=sys.argv[1], distance=0.5)
optimizer = exchange.prepare(model, torch.optim.SGD(model.parameters(), lr=rate))
network = SimpleNamespace(model=model, measure=lambda *_: {},
                          forward=lambda x, y: (None, curvature / 2 * model["w"].square()))
# each rank has one sample of the batch
weight, weights = torch.ones(1) / exchange.divisor(SimpleNamespace(total=comm.size)), []
for number in range(4):
    optimizer.zero_grad()
    step = Step(network, exchange, rate, number, see=lambda columns: None, lap=lambda part: None)
    extrapolate(step, [(None, None, weight)])
    exchange.finish(optimizer)
    exchange.step(optimizer)
    weights.append(float(model["w"].detach()))
if comm.rank == 0:
    print(json.dumps(weights))
comm.close()
