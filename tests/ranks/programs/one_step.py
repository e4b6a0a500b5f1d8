"""One SGD step through the allreduce on unequal parts of a batch of 12: prints the digest-free weights for
comparison with one rank.

The last rank gets nothing when there are more than two: it still has to take part in the sum
of the gradients. one_step.py FILE ENGINE
"""

import sys
from types import SimpleNamespace

import numpy as np

from hpcfilter.comm import world

comm = world()
import torch  # noqa: E402  after mpi4py

from hpcfilter.train.exchange import engine_of, make_exchange  # noqa: E402
from hpcfilter.train.schema import Exchange  # noqa: E402

torch.manual_seed(comm.rank)  # the ranks start with different weights; broadcast must make them equal
model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
if comm.rank == 0:
    torch.manual_seed(42)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
model[0].weight.data = model[0].weight.data.t().contiguous().t()  # a layout that Horovod refuses
table = Exchange(engine=sys.argv[2])
exchange = make_exchange(table, comm, engine_of(table, comm, torch.device("cpu")))
exchange.broadcast(model)
optimizer = exchange.prepare(model, torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, nesterov=True))
rng = np.random.default_rng(0)
x = torch.from_numpy(rng.normal(size=(12, 5)).astype(np.float32))
y = torch.from_numpy(rng.integers(0, 3, 12))
cuts = {1: [0, 12], 2: [0, 7, 12], 3: [0, 7, 12, 12]}[comm.size]
own = slice(cuts[comm.rank], cuts[comm.rank + 1])
for _ in range(2):
    optimizer.zero_grad()
    if own.stop > own.start:
        losses = torch.nn.functional.cross_entropy(model(x[own]), y[own], reduction="none")
        loss = losses.sum() / exchange.divisor(SimpleNamespace(total=12))
        exchange.backward(loss, model, last=True)
    exchange.finish(optimizer)
    exchange.step(optimizer)
flat = np.concatenate([parameter.detach().numpy().ravel() for parameter in model.parameters()])
assert np.array_equal(comm.max(flat), comm.min(flat)), "the ranks hold different weights"
norm = torch.nn.BatchNorm1d(3)
norm.running_mean.fill_(float(comm.rank))
exchange.settle(norm, (comm.rank + 1) / (comm.size * (comm.size + 1) / 2))
expected = sum(rank * (rank + 1) for rank in range(comm.size)) / (comm.size * (comm.size + 1) / 2)
assert torch.allclose(norm.running_mean, torch.tensor(expected)), (norm.running_mean, expected)
if comm.rank == 0:
    np.save(sys.argv[1], flat)
comm.close()
