"""What the epoch's order costs: each rank's part of a keyed bijection and a bit set, against a
permutation array on every rank."""

import argparse
import statistics
import time

import numpy as np

from benchmarks.results import write
from hpcfilter.base.randomness import Permutation
from hpcfilter.comm import SerialComm
from hpcfilter.select.kept import KeptSet


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks order", description=__doc__)
    parser.add_argument("--samples", type=int, nargs="+", default=[60_000, 1_281_167, 10_000_000])
    parser.add_argument("--parts", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--output", default="benchmarks/results/order.jsonl")
    words = parser.parse_args(words)
    for samples in words.samples:
        keep = np.random.default_rng(0).random(samples) < 0.7
        for parts in words.parts:
            times = {"bijection": [], "array": []}
            for _ in range(words.repetitions):
                for name, function in (("bijection", bijection), ("array", array)):
                    start = time.perf_counter()
                    _, held = function(keep, parts)
                    times[name].append(time.perf_counter() - start)
                    times[f"{name}_bytes"] = held
            medians = {name: statistics.median(times[name]) for name in ("bijection", "array")}
            write(words.output, "order", {"samples": samples, "parts": parts, "kept": 0.7},
                  repetitions=words.repetitions, unit="seconds, bytes", seconds=medians,
                  held={name: times[f"{name}_bytes"] for name in medians})
            print(f"{samples:>10} samples, 1/{parts} of them: "
                  f"bijection {1e3 * medians['bijection']:8.1f} ms {times['bijection_bytes']:>11} B   array "
                  f"{1e3 * medians['array']:8.1f} ms {times['array_bytes']:>11} B", flush=True)


def bijection(keep, parts):
    """As the sampler does it: the bits of all, and this rank's indices."""
    kept = KeptSet(keep, SerialComm())
    index = kept.select(Permutation(kept.count, 0, 1)(np.arange(kept.count // parts)))
    return index, kept.blocks.nbytes + kept.before.nbytes + index.nbytes


def array(keep, parts):
    """The usual way: every rank shuffles the indices of all kept samples."""
    index = np.flatnonzero(keep)
    np.random.default_rng(0).shuffle(index)
    return index[: len(index) // parts], index.nbytes
