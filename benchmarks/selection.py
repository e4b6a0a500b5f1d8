"""What a threshold costs: time, payload and memory beside the ways of others, on real ranks,
in one run, interleaved.

    allgather       every rank gathers all scores as float32 and takes np.argpartition
    allreduce       three float64 sums of length N (loss, correctness, confidence), then a full sort on every
                    rank: the way of KAKURENBO
    by class        1000 classes at once, against an all-gather of scores and classes and np.lexsort
"""

import argparse
import statistics
import time
import tracemalloc

import numpy as np

from benchmarks.results import write
from hpcfilter.base.errors import BrokenInvariant, InputError
from hpcfilter.base.shard import shard
from hpcfilter.comm import world
from hpcfilter.jobs import run_local
from hpcfilter.select.threshold import cut, lowest, lowest_by_group

FRACTION, CLASSES = 0.3, 1000


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks selection", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1_281_167])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--output", default="benchmarks/results/selection.jsonl")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # this is one of the ranks
    words = parser.parse_args(words)
    if words.inside:
        comm = world()
        for samples in words.samples:
            measure(samples, words.repetitions, words.output, comm)
        comm.close()
        return
    for ranks in words.ranks:
        again = ["--inside", "--samples", *words.samples, "--repetitions", words.repetitions,
                 "--output", words.output]
        done = run_local(ranks, ["-m", "benchmarks", "selection", *map(str, again)], timeout=1800)
        if done.returncode:
            raise InputError(f"the benchmark on {ranks} ranks ended with {done.returncode}")


def measure(samples, repetitions, output, comm):
    """All ways on the same scores; every mask is compared with that of a stable sort before
    anything is timed."""
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=samples).astype(np.float32)
    scores[rng.integers(0, samples, samples // 50)] = scores[0]  # 2 % exact ties
    classes = rng.integers(0, CLASSES, samples)
    n, block = int(FRACTION * samples), shard(samples, comm.rank, comm.size)
    own = slice(block.start, block.stop)
    n_by_class = (FRACTION * np.bincount(classes, minlength=CLASSES)).astype(np.int64)
    mine, my_class = scores[own].copy(), classes[own].copy()
    _, threshold = cut(mine, n, comm)
    ways = {"ours": lambda comm: lowest(mine, n, comm),
            "ours, warm": lambda comm: lowest(mine, n, comm, start=threshold),
            "allgather": lambda comm: allgather(mine, n, comm),
            "allreduce": lambda comm: allreduce(mine, n, samples, own, comm)}
    groups = {"ours by class": lambda comm: lowest_by_group(mine, my_class, n_by_class, comm),
              "lexsort by class": lambda comm: lexsort(mine, my_class, n_by_class, comm)}
    check(ways, stable(scores, n)[own], comm)
    check(groups, stable_by_class(scores, classes, n_by_class)[own], comm)
    row = {"samples": samples, "fraction": FRACTION, "classes": CLASSES, "ties": 0.02}
    seconds = {**interleaved(ways, repetitions, comm), **interleaved(groups, min(repetitions, 20), comm)}
    payload = {name: count(way, comm) for name, way in {**ways, **groups}.items()}
    memory = {name: held(way, comm) for name, way in {**ways, **groups}.items()}
    ratio = {f"{other} / {name}":
             round(statistics.median(seconds[other]) / statistics.median(seconds[name]), 2)
             for name, others in (("ours", ("allgather", "allreduce")), ("ours, warm", ("allgather",)),
                                  ("ours by class", ("lexsort by class",))) for other in others}
    if comm.rank == 0:
        write(output, "selection", row, ranks=comm.size, repetitions=repetitions,
              unit="seconds, bytes per rank", ratio=ratio,
              seconds={name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
                       for name, values in seconds.items()},
              payload={name: sent for name, (sent, _) in payload.items()},
              collectives={name: calls for name, (_, calls) in payload.items()}, memory=memory)
        print(f"{samples} samples, {comm.size} ranks, median of {repetitions} (masks equal a stable sort)")
        for name, values in seconds.items():
            print(f"  {name:18} {1e3 * statistics.median(values):9.2f} ms ({1e3 * min(values):.2f} to "
                  f"{1e3 * max(values):.2f})  payload {payload[name][0]:>10} B in {payload[name][1]:2d} "
                  f"collectives  memory {memory[name] / 2**20:7.2f} MiB")
        print("  " + "  ".join(f"{name} = {value}" for name, value in ratio.items()), flush=True)


def allgather(mine, n, comm):
    own_scores = comm.allgather(mine)
    scores = np.concatenate(own_scores)
    mask = np.zeros(len(scores), bool)
    mask[np.argpartition(scores, n - 1)[:n]] = True
    first = sum(len(part) for part in own_scores[: comm.rank])
    return mask[first : first + len(mine)]


def allreduce(mine, n, samples, own, comm):
    """Loss, correctness and confidence as three sums of length N; then every rank sorts."""
    merged = []
    for column in (mine, mine > 1, mine):
        whole = np.zeros(samples)
        whole[own] = column
        merged.append(comm.sum(whole))
    mask = np.zeros(samples, bool)
    mask[np.argsort(merged[0])[:n]] = True
    return mask[own]


def lexsort(mine, my_class, n, comm):
    parts = comm.allgather(mine)
    scores, classes = np.concatenate(parts), np.concatenate(comm.allgather(my_class))
    first = sum(len(part) for part in parts[: comm.rank])
    return stable_by_class(scores, classes, n)[first : first + len(mine)]


def stable(scores, n):
    mask = np.zeros(len(scores), bool)
    mask[np.argsort(scores, kind="stable")[:n]] = True
    return mask


def stable_by_class(scores, classes, n):
    order = np.lexsort((scores, classes))
    sizes = np.bincount(classes, minlength=len(n))
    place = np.arange(len(scores)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    mask = np.zeros(len(scores), bool)
    mask[order[place < n[classes[order]]]] = True
    return mask


def check(ways, expected, comm):
    """argpartition and argsort choose any of equal scores, so theirs need only be as many; ours must be
    those of the stable sort."""
    for name, way in ways.items():
        mask = way(comm)
        wrong = (int(comm.sum(np.count_nonzero(mask != expected))) if name.startswith(("ours", "lexsort"))
                 else int(comm.sum(np.count_nonzero(mask))) - int(comm.sum(np.count_nonzero(expected))))
        if wrong:
            raise BrokenInvariant(f"{name}: {wrong} samples differ from a stable sort")


def interleaved(ways, repetitions, comm):
    """name -> seconds of each repetition on the slowest rank; the ways take turns."""
    seconds = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, way in ways.items():
            comm.barrier()
            start = time.perf_counter()
            way(comm)
            seconds[name].append(float(comm.max(time.perf_counter() - start)))
    return seconds


class Counting:
    """A communicator that counts the collectives it is asked for."""

    def __init__(self, comm):
        self.comm, self.calls = comm, 0

    def __getattr__(self, name):
        self.calls += name in ("sum", "max", "min", "exscan", "allgather", "alltoallv", "bcast")
        return getattr(self.comm, name)


def count(way, comm):
    """(bytes of payload, number of collectives) of one call."""
    before, counting = comm.sent, Counting(comm)
    way(counting)
    return comm.sent - before, counting.calls


def held(way, comm):
    """The most memory that one call holds at once, bytes."""
    tracemalloc.start()
    way(comm)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
