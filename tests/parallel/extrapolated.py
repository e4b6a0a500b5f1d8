"""ExtrapSGD on ranks whose losses have different curvatures: extrapolated.py KIND prints the weights of four steps as JSON."""

import json
import sys

from hpcfilter.comm import world

comm = world()
import torch  # noqa: E402  after mpi4py

from hpcfilter.train.optim import Extrapolation  # noqa: E402

model, rate, curvature = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.ones(1))}), 0.1, comm.rank + 1.0
extrapolation = Extrapolation(model, sys.argv[1], 0.5, share=comm.size)
optimizer = comm.distribute(torch.optim.SGD(model.parameters(), lr=rate), model)
weights = []


def loss():
    return curvature / 2 * model["w"].square().sum() / comm.size  # this rank's part of the mean


for step in range(4):
    optimizer.zero_grad()
    extrapolation.away(rate, [loss], seed=step)
    loss().backward()
    extrapolation.back()
    comm.finish_sums(optimizer)
    comm.step(optimizer)
    weights.append(float(model["w"].detach()))
if comm.rank == 0:
    print(json.dumps(weights))
comm.close()
