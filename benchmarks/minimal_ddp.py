"""The loop that others write without Horovod: DistributedDataParallel, a network, data on the device, nothing
else. `python -m benchmarks gpu` measures ours against it.

    torchrun --standalone --nproc-per-node 1 -m benchmarks.minimal_ddp run.toml EPOCHS

Network, optimiser, batches and learning rate are those of the run config; the data is normalised once, before
the clock starts. Prints the seconds of each epoch as a JSON list.
"""

import json
import os
import sys
import time

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from hpcfilter.data import open_packed
from hpcfilter.train.config import load
from hpcfilter.train.network import Network
from hpcfilter.train.optim import make_optimizer


def main(config_path, epochs):
    rank, size, local_rank, local_size = (int(os.environ[name]) for name in (
        "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    config = load(config_path)
    dataset = open_packed(config.data.path)
    network = Network(config, dataset, local_rank, local_size)
    device = network.device
    # nccl and xccl want a GPU for each rank
    alone = device.type != "cpu" and torch.get_device_module(device).device_count() >= local_size
    dist.init_process_group({"cuda": "nccl", "xpu": "xccl"}[device.type] if alone else "gloo")
    model = DistributedDataParallel(network.model,
                                    device_ids=None if device.type == "cpu" else [device.index])
    x, y = network.tensors(dataset.train.images[:], dataset.train.labels[:])
    optimizer = make_optimizer(network.model, config.optim)
    for group in optimizer.param_groups:
        group["lr"] = config.optim.lr
    batch, steps = config.train.global_batch // size, -(-len(x) // config.train.global_batch)
    seconds = []
    for epoch in range(epochs):
        dist.barrier()
        start = time.perf_counter()
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch)).to(device)
        mine = order[rank::size]
        model.train()
        for step in range(steps):
            index = mine[step * batch : (step + 1) * batch]
            optimizer.zero_grad()
            with torch.autocast(device.type, network.precision, enabled=network.precision != torch.float32):
                output = model(network.laid_out(x[index]))
            cross_entropy(output.float(), y[index]).backward()
            optimizer.step()
        network.wait()
        slowest = torch.tensor(time.perf_counter() - start, dtype=torch.float64, device=device)
        dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
        seconds.append(float(slowest))
    if rank == 0:
        print(json.dumps(seconds))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
