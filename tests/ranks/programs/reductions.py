"""How gradients of two ranks are brought together: reductions.py KIND COMPRESSION prints the result for
given gradients as JSON."""

import json
import sys

from hpcfilter.comm import world

comm = world()
import torch  # noqa: E402  after mpi4py

from hpcfilter.train.exchange import engine_of, make_exchange  # noqa: E402
from hpcfilter.train.schema import Exchange  # noqa: E402

GRADIENTS = {"orthogonal": ([3.0, 0.0], [0.0, 4.0]), "parallel": ([1.0, 2.0], [1.0, 2.0]),
             "small": ([1e-3, 0.1], [2e-3, 0.2])}
model = torch.nn.ParameterDict({name: torch.nn.Parameter(torch.zeros(2)) for name in GRADIENTS})
table = Exchange(kind=sys.argv[1], compression=sys.argv[2])
exchange = make_exchange(table, comm, engine_of(table, comm, torch.device("cpu")))
optimizer = exchange.prepare(model, torch.optim.SGD(model.parameters(), lr=1.0))
loss = sum((model[name] * torch.tensor(parts[comm.rank])).sum() for name, parts in GRADIENTS.items())
exchange.backward(loss, model, last=True)
exchange.finish(optimizer)
found = {name: parameter.grad.tolist() for name, parameter in model.items()}
exchange.step(optimizer)
if comm.rank == 0:
    print(json.dumps(found))
comm.close()
