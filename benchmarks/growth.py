"""What one threshold costs as the number N of keys grows on P ranks, and as P grows with as many keys per
rank, beside a model of both.

    sample        hpcfilter.lowest as it is: a sample brackets the threshold, one pass over the keys
                  picks out what lies between
    no sample     as on more than 4096 ranks, where lowest goes without the sample and all keys
                  take part in its histograms

Keys are made on each rank, piece by piece, from (seed, global index): the same on any number of ranks, and a
rank holds its own only, 4 bytes each. Modelled are the passes over a rank's own keys, a + b N / P, fitted to
the measured times on the same P, and what an allreduce of each size takes. The rows in which N grows are
those of the fit; those in which P grows are not among them.
"""

import argparse
import importlib
import json
import os
import tempfile
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import psutil
from scipy.optimize import nnls

from benchmarks.results import interleaved, on_ranks, spread, write
from hpcfilter.base.errors import BrokenInvariant
from hpcfilter.base.randomness import uniform
from hpcfilter.base.shard import shard
from hpcfilter.base.shares import share
from hpcfilter.comm import world
from hpcfilter.select.threshold import cut, lowest
from hpcfilter.study.predict import Fit, Link, fit, tree

FRACTION, SEED = 0.3, 0
PIECE = 1 << 16  # keys that are made at a time
# bytes per key in all: its own 4, and what a call holds (measured 3 and 29) with room to spare
NEEDS = {"sample": 10, "no sample": 36}
# keys, after which a number of keys is not measured again, but for the least repetitions
ENOUGH = 500_000_000
LEAST = 3  # repetitions
# bytes of the allreduces that the model of communication is fitted to
SIZES = [8, 64, 512, 4096, 16384, 65536]
COLLECTIVES = ("sum", "max", "min", "exscan", "allgather")
LINK = Link(2e-6, 25e9 / 6)  # of one of six ranks of a node: 2 us, 25 GB/s to the network
SCALES, TOTALS = (64, 1024, 27_648), (1_000_000_000, 5_000_000_000)
SAMPLED = 4096  # ranks, beyond which there is no sample


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks growth", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[10**power for power in range(5, 10)],
                        help="N (default 10^5 to 10^9)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--per-rank", type=int, default=2_000_000,
                        help="keys of each rank where P grows (default 2,000,000)")
    parser.add_argument("--repetitions", type=int, default=20,
                        help="at most; fewer where there are many keys")
    parser.add_argument("--output", default="benchmarks/results/growth.jsonl")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args(words)
    if words.inside:
        return measure(words)
    found, models = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for ranks in words.ranks:
            path = Path(folder) / "measured.json"
            again = ["--per-rank", words.per_rank, "--repetitions", words.repetitions, "--output", path,
                     "--samples", *words.samples]
            on_ranks("growth", ranks, again, timeout=3600)
            found[ranks] = json.loads(path.read_text())
            check_same(found)
            models[ranks] = {way: model_of(found[ranks], way, ranks) for way in NEEDS}
            crowd = f", on {os.cpu_count()} cores" if ranks > os.cpu_count() else ""
            show(f"N grows: {ranks} rank{'s' * (ranks > 1)}{crowd}", found[ranks]["N grows"], models,
                 words.output)
    show(f"P grows: {words.per_rank:,} keys per rank",
         [row for each in found.values() for row in each["P grows"]], models, words.output)
    return at_scale(found, models, words.output)


def measure(words):
    """All numbers of keys on these ranks. Rank 0 leaves what was found in a file, as JSON."""
    comm = world()
    found = {table: [row for samples in numbers for row in measure_one(samples, words.repetitions, comm)]
             for table, numbers in (("N grows", words.samples), ("P grows", [words.per_rank * comm.size]))}
    found["allreduce"] = allreduces(comm) if comm.size > 1 else None
    if comm.rank == 0:
        Path(words.output).write_text(json.dumps(found))
    comm.close()


def measure_one(samples, repetitions, comm):
    """One row for each way: its numbers, or what it would need."""
    comm.barrier()  # the keys of the last call are gone on all ranks
    available = comm.bcast(psutil.virtual_memory().available)
    about = {"samples": samples, "n_local": -(-samples // comm.size), "ranks": comm.size}
    fitting = [way for way, size in NEEDS.items() if size * samples <= available]
    rows = {way: {**about, "way": way, "skipped": True, "needs": size * samples, "available": available}
            for way, size in NEEDS.items()}
    if fitting:
        mine, n = keys(shard(samples, comm.rank, comm.size)), share(FRACTION, samples)
        ways = {"sample": lambda: lowest(mine, n, comm),
                "no sample": lambda: without_sample(lowest, mine, n, comm)}
        ways = {way: ways[way] for way in fitting}
        threshold = {way: check(mine, n, way, comm) for way in ways}  # warms up too
        repetitions = max(LEAST, min(repetitions, ENOUGH // samples))
        seconds = interleaved(ways, repetitions, comm)
        for way in ways:
            before, recorder = comm.sent, Recorder(comm)
            lowest(mine, n, recorder) if way == "sample" else without_sample(lowest, mine, n, recorder)
            sent = int(comm.max(comm.sent - before))
            rows[way] = {**about, "way": way, "repetitions": repetitions, "seconds": spread(seconds[way]),
                         "payload": sent, "calls": recorder.calls, "memory": int(comm.max(held(ways[way]))),
                         "threshold": threshold[way]}
    return list(rows.values())


def keys(block):
    """The keys of a block of global indices, exponentially distributed. Returns float32 (n_local,)."""
    mine = np.empty(len(block), np.float32)
    for start in range(0, len(block), PIECE):
        index = np.arange(block.start + start, min(block.start + start + PIECE, block.stop))
        mine[start : start + len(index)] = -np.log1p(-uniform(SEED, 0, index, 1, "growth")[:, 0])
    return mine


def without_sample(function, *arguments):
    """Call a threshold as on more ranks than the sample has keys."""
    with mock.patch.object(importlib.import_module("hpcfilter.select.threshold.lowest"), "SAMPLE", 0):
        return function(*arguments)


def check(mine, n, way, comm):
    """Refuse a wrong answer: exactly n are hidden, and none of them is above one that is kept.
    Returns the threshold."""
    mask, threshold = cut(mine, n, comm) if way == "sample" else without_sample(cut, mine, n, comm)
    hidden = int(comm.sum(np.count_nonzero(mask)))
    highest = float(comm.max(np.max(mine, where=mask, initial=-np.inf)))
    least = float(comm.min(np.min(mine, where=~mask, initial=np.inf)))
    if hidden != n or highest > least or highest != threshold:
        raise BrokenInvariant(f"{way}: {hidden} keys are hidden up to {highest}, expected {n} up to "
                              f"{threshold}; the least that is kept is {least}")
    return threshold


class Recorder:
    """A communicator that remembers the collectives it is asked for: (name, bytes of this rank)."""

    def __init__(self, comm):
        self.comm, self.calls = comm, []

    def __getattr__(self, name):
        call = getattr(self.comm, name)
        if name not in COLLECTIVES:
            return call

        def recorded(value):
            self.calls.append((name, np.asarray(value).nbytes))
            return call(value)

        return recorded


def held(way):
    """The most memory that one call holds at once beside the keys, bytes."""
    tracemalloc.start()
    way()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def allreduces(comm):
    """The median seconds of an allreduce of each of SIZES on these ranks."""
    arrays = {size: np.ones(size // 8, np.int64) for size in SIZES}
    ways = {size: lambda array=array: comm.sum(array) for size, array in arrays.items()}
    interleaved(ways, 3, comm)
    return [spread(seconds)["median"] for seconds in interleaved(ways, 21, comm).values()]


@dataclass(frozen=True)
class Model:
    """One way on a number of ranks: passes of a + b n_local seconds, and communication."""

    ranks: int
    a: float
    b: float
    allreduce: Fit | None  # None on one rank

    def seconds(self, row):
        """Modelled seconds of a measured row, dict of parts."""
        return parts(self.a + self.b * row["n_local"], communication(row, self.allreduce))


def parts(passes, spoken):
    return {"passes": passes, "communication": spoken, "seconds": passes + spoken}


def communication(row, allreduce):
    """Modelled seconds of the collectives of a row on its own ranks."""
    return float(np.sum(allreduce.seconds(sizes(row, row["ranks"])))) if allreduce else 0.0


def sizes(row, ranks):
    """The bytes of the collectives of a row, as they are on so many ranks.

    Histograms and counts have the same size everywhere. The sample's keys are shared out among the ranks;
    each adds a count, and the length of both.
    """
    found = []
    for name, size in row["calls"]:
        found += [8 * ranks, (size - 8) * row["ranks"] + 8 * ranks] if name == "allgather" else [size]
    return found


def model_of(found, way, ranks):
    """The Model of one way, of least squared relative error on the rows in which N grows; None for
    fewer than two of them."""
    rows = [row for row in found["N grows"] if row["way"] == way and "seconds" in row]
    if len(rows) < 2:
        return None
    allreduce = fit(SIZES, found["allreduce"], ranks) if found["allreduce"] else None
    seconds, n_local = (np.array([row["seconds"]["median"] for row in rows]),
                        np.array([row["n_local"] for row in rows]))
    spoken = np.array([communication(row, allreduce) for row in rows])
    (a, b), _ = nnls(np.stack([1 / seconds, n_local / seconds], axis=1), 1 - spoken / seconds)
    return Model(ranks, float(a), float(b), allreduce)


def show(title, rows, models, output):
    """Write rows with what the model says of them, and print them as a table."""
    print(f"{title}; the lowest {100 * FRACTION:g} % of N keys; seconds of the slowest rank, bytes per rank")
    print(f"{'ranks':>5} {'N':>13} {'way':9} {'ms':>9} {'(min to max)':>19} {'modelled':>9} {'off':>6} "
          f"{'payload':>7} {'calls':>5} {'memory':>13}")
    for row in rows:
        head = f"{row['ranks']:>5} {row['samples']:>13,} {row['way']:9}"
        about = {"table": title.split(":")[0], "way": row["way"], "samples": row["samples"],
                 "n_local": row["n_local"], "fraction": FRACTION}
        if "skipped" in row:
            write(output, "growth", about, ranks=row["ranks"], skipped=True, unit="bytes", needs=row["needs"],
                  available=row["available"])
            print(f"{head} skipped: needs about {row['needs'] / 1e9:.1f} GB, {row['available'] / 1e9:.1f} GB "
                  "are available", flush=True)
            continue
        model, took = models[row["ranks"]][row["way"]], row["seconds"]
        modelled = model.seconds(row) if model else None
        write(output, "growth", about, ranks=row["ranks"], repetitions=row["repetitions"],
              unit="seconds, bytes per rank", seconds=took, modelled=modelled, payload=row["payload"],
              collectives=len(row["calls"]), memory=row["memory"], threshold=row["threshold"])
        between = f"({1e3 * took['min']:.2f} to {1e3 * took['max']:.2f})"
        off = f"{100 * (modelled['seconds'] / took['median'] - 1):+.0f}%" if modelled else "-"
        print(f"{head} {1e3 * took['median']:9.2f} {between:>19} "
              f"{1e3 * modelled['seconds'] if modelled else float('nan'):9.2f} {off:>6} {row['payload']:>7} "
              f"{len(row['calls']):>5} {row['memory']:>13,}", flush=True)


def check_same(found):
    """Refuse unless the same keys have the same threshold on any number of ranks, with and
    without a sample."""
    thresholds = {}
    for row in [row for each in found.values() for table in ("N grows", "P grows")
                for row in each[table] if "threshold" in row]:
        expected = thresholds.setdefault(row["samples"], row["threshold"])
        if row["threshold"] != expected:
            raise BrokenInvariant(f"{row['samples']} keys, {row['way']}, {row['ranks']} ranks: "
                                  f"got the threshold {row['threshold']}, expected {expected} as before")


def at_scale(found, models, output):
    """The model on up to 27,648 ranks, each with a core of its own: passes as measured here, a double binary
    tree between the ranks."""
    base = max((ranks for ranks in found if ranks <= os.cpu_count()), default=min(found))
    print(f"modelled: passes as on {base} ranks here, {LINK.latency * 1e6:g} us and "
          f"{LINK.bandwidth / 1e9:.2f} GB/s per rank")
    for ranks in SCALES:
        way = "sample" if ranks <= SAMPLED else "no sample"
        rows = [row for row in found[base]["N grows"] if row["way"] == way and "calls" in row]
        if not (model := models[base][way]):
            continue
        for samples in TOTALS:
            n_local = -(-samples // ranks)
            seconds = parts(model.a + model.b * n_local,
                            float(np.sum(tree(np.array(sizes(rows[-1], ranks)), ranks, LINK))))
            about = {"table": "at scale", "way": way, "samples": samples, "n_local": n_local,
                     "fraction": FRACTION, "passes of ranks": base}
            write(output, "growth", about, ranks=ranks, unit="seconds", modelled=seconds)
            print(f"{ranks:>7} ranks {samples:>13,} keys, {way:9}: modelled {1e3 * seconds['seconds']:8.2f} "
                  f"ms, of which communication {1e3 * seconds['communication']:.2f} ms", flush=True)
