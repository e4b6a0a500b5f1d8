"""Samples per second of a forward pass for scores, against those of training with the same network; settings
in turns, on every rank.

Training is forward, backward and optimiser step without communication. Scoring is `Network.look`: eval mode,
no gradients, larger batches.
"""

import argparse

import numpy as np

from benchmarks.loop import RUN
from benchmarks.results import interleaved, on_ranks, spread, write
from hpcfilter.comm import world
from hpcfilter.data import open_packed
from hpcfilter.train.config import load
from hpcfilter.train.evaluate import LOOK_FACTOR
from hpcfilter.train.network import Network
from hpcfilter.train.optim import make_optimizer

LAST = {"channels_last": "true"}
HALF = {**LAST, "precision": "bfloat16"}
WAYS = {"train": {}, "train, channels last": LAST, "train, channels last, bf16": HALF,
        "score": {}, "score, channels last": LAST, "score, channels last, bf16": HALF}


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks scoring", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="packed file")
    parser.add_argument("--models", nargs="+", default=["cnn", "resnet18"])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128,
                        help="samples per rank and training step (default 128)")
    parser.add_argument("--samples", type=int, default=2048, help="per measurement and rank")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--device", default="auto", help="as train.device (default auto)")
    parser.add_argument("--output", default="benchmarks/results/scoring.jsonl")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args(words)
    if words.inside:
        return measure(words)
    again = [word for name in ("data", "batch", "samples", "repetitions", "device", "output")
             for word in (f"--{name}", getattr(words, name))]
    return on_ranks("scoring", words.ranks, [*again, "--models", *words.models])


def measure(words):
    comm = world()
    dataset = open_packed(words.data)
    index = np.arange(words.samples) + comm.rank * words.samples
    for name in words.models:
        ways = {}
        for label, settings in WAYS.items():
            config = load(RUN, [f"data.path={words.data}", f'model={{name="{name}"}}',
                                f"train.device={words.device}",
                                *(f"train.{key}={value}" for key, value in settings.items())])
            network = Network(config, dataset, comm.local_rank, comm.local_size)
            ways[label] = (trainer(network, dataset.train, index, words.batch, config)
                           if label.startswith("train") else (
                               lambda network=network: network.infer(dataset.train, index,
                                                                     LOOK_FACTOR * words.batch)))
        interleaved(ways, 1, comm)
        seconds = interleaved(ways, words.repetitions, comm)
        rate = {label: words.samples * comm.size / spread(values)["median"]
                for label, values in seconds.items()}
        best = {kind: max(value for label, value in rate.items() if label.startswith(kind))
                for kind in ("train", "score")}
        ratio = {"as is": rate["score"] / rate["train"], "channels last": rate["score, channels last"]
                 / rate["train, channels last"], "channels last, bf16": rate["score, channels last, bf16"]
                 / rate["train, channels last, bf16"], "best": best["score"] / best["train"]}
        if comm.rank == 0:
            about = {"model": name, "data": dataset.path.rpartition("/")[2], "batch": words.batch,
                     "samples": words.samples}
            write(words.output, "scoring", about, ranks=comm.size, repetitions=words.repetitions,
                  unit="samples/s", rate=rate, ratio=ratio)
            print(f"{name}: " + ", ".join(f"{label} {value:.0f}/s" for label, value in rate.items()))
            print(f"{name}: scoring / training "
                  + ", ".join(f"{label} {value:.2f}" for label, value in ratio.items()), flush=True)
    comm.close()


def trainer(network, split, index, batch, config):
    optimizer = make_optimizer(network.model, config.optim)

    def epoch():
        for rows in network.read(split, [index[start : start + batch]  # ahead, as scoring does
                                         for start in range(0, len(index), batch)]):
            x, y = network.tensors(*rows)
            optimizer.zero_grad()
            output, losses = network.forward(x, y)
            losses.mean().backward()
            network.measure(output, y, losses)
            optimizer.step()
        network.wait()

    return epoch
