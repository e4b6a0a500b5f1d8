"""One training step: forward and backward on this rank's samples, the sum over the ranks, the optimiser."""

from functools import partial

import torch

from hpcfilter.base.alive import faults
from hpcfilter.base.own import code
from hpcfilter.train import optim


def step(run, batch, images, labels, rate, seed, seen, lap):
    """Train one batch. Each rank's loss is its part of the sum over the global batch, divided by the global count, or by a rank's share of that where
    the ranks' gradients are averaged. All ranks must call.

    batch: sampler.Batch of this rank. images, labels: its rows. rate: learning rate, of which each parameter group gets its part. seed: of what the
    model draws. seen: Columns that take the observations. lap: Laps. With train.micro_batch the samples go forward in equal parts of at most that
    many, whose gradients are added up; BatchNorm normalises each part by itself, as on as many ranks, and takes its running statistics from one part
    after the other.
    """
    optimizer, comm = run.optimizer, run.comm
    optim.set_rate(optimizer, rate, run.ratios)
    run.network.seed(seed)
    optimizer.zero_grad()
    if len(batch.index):  # a rank without samples in this step still takes part in the sum of the gradients, with zeros
        _gradients(run, batch, images, labels, rate, seed, seen, lap)
    comm.finish_sums(optimizer)
    lap("communication")
    if run.noise:
        run.noise.step()
    if run.config.train.clip_norm:
        optim.clip(run.network.model, run.config.train.clip_norm)
    with code("train.optimizer: its step fails", ":" in run.config.train.optimizer):
        comm.step(optimizer)
    lap("optimiser")
    faults.point("weights", run.network.model.parameters())


def _gradients(run, batch, images, labels, rate, seed, seen, lap):
    """Forward and backward; the last backward pass begins the sum over the ranks."""
    network, extrapolation = run.network, run.extrapolation
    x, y = network.tensors(images, labels)
    faults.point("samples", x)
    weight = torch.from_numpy(batch.weight).to(x.device) / (batch.total / (run.comm.size if run.own_mean else 1))
    count = -(-len(x) // (run.config.train.micro_batch or len(x)))
    parts = list(zip(*(part.tensor_split(count) for part in (x, y, weight)), strict=True))  # equal but for one sample: BatchNorm needs more than one
    if extrapolation:
        extrapolation.away(rate, [partial(_loss, network, *part) for part in parts], seed)
    for number, (x, y, weight) in enumerate(parts, 1):
        output, losses = network.forward(x, y)
        loss = (losses * weight).sum()
        seen.add(network.observe(output, y, losses), losses)
        lap("forward")
        if number < len(parts):
            optim.accumulate(loss, network.model)
        else:
            loss.backward()
        lap("backward")
    if extrapolation:
        extrapolation.back()


def _loss(network, x, y, weight):
    return (network.forward(x, y)[1] * weight).sum()
