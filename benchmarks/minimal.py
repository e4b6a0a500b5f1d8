"""The loop that others write: Horovod, a network, data in memory, nothing else. `python -m benchmarks loop`
measures ours against it.

    mpirun -np 2 python -m mpi4py -m benchmarks.minimal run.toml EPOCHS

Network, optimiser, batches and learning rate are those of the run config; the data is converted and
normalised once, before the clock starts. Prints the seconds of each epoch as a JSON list.
"""

import json
import sys
import time

from mpi4py import MPI

import torch  # isort: skip  behind mpi4py, as sites want it
import horovod.torch as hvd
from torch.nn.functional import cross_entropy

from hpcfilter.data import open_packed
from hpcfilter.train.config import load
from hpcfilter.train.network import Network
from hpcfilter.train.optim import make_optimizer


def main(config_path, epochs):
    hvd.init()
    config = load(config_path)
    dataset = open_packed(config.data.path)
    network = Network(config, dataset, hvd.local_rank(), hvd.local_size())
    model = network.model
    x, y = network.tensors(dataset.train.images[:], dataset.train.labels[:])
    train, optim = config.train, config.optim
    optimizer = make_optimizer(model, optim)
    for group in optimizer.param_groups:
        group["lr"] = optim.lr
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    batch = train.global_batch // hvd.size()
    steps = -(-len(x) // train.global_batch)
    seconds = []
    for epoch in range(epochs):
        MPI.COMM_WORLD.Barrier()
        start = time.perf_counter()
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch)).to(x.device)
        mine = order[hvd.rank() :: hvd.size()]
        model.train()
        for step in range(steps):
            index = mine[step * batch : (step + 1) * batch]
            optimizer.zero_grad()
            with torch.autocast(x.device.type, network.precision, enabled=network.precision != torch.float32):
                output = model(network.laid_out(x[index]))
            cross_entropy(output.float(), y[index]).backward()
            optimizer.step()
        network.wait()
        seconds.append(MPI.COMM_WORLD.allreduce(time.perf_counter() - start, op=MPI.MAX))
    if hvd.rank() == 0:
        print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
