"""What an allreduce costs by size, of MPI and of Horovod; the alpha-beta model fitted to half of the sizes
and held against the other half.

Then the model is carried to the machines of the profiles' size: a flat ring, a tree and a hierarchy for the
gradients of a network, and what filtering does to an epoch there. Every such number is modelled.
"""

import argparse
import statistics
from functools import partial

import numpy as np
import torch

from benchmarks.results import interleaved, on_ranks, write
from hpcfilter.comm import world
from hpcfilter.study.predict import Link, Step, epoch_seconds, fit, selection_seconds, ways
from hpcfilter.study.report import fits, read_results
from hpcfilter.train.exchange.horovod import Horovod

SIZES = [1 << power for power in range(10, 27)]  # bytes: 1 KiB to 64 MiB
SCALES = (6, 48, 384, 3072, 6144, 12_288, 27_648)  # ranks, six to a node
# Of a node with six GPUs: 2 us, 25 GB/s to the network, 50 GB/s from GPU to GPU; ResNet-50, 64 samples
# per GPU in half precision.
NODE, INSIDE, BETWEEN = 6, Link(2e-6, 50e9), Link(2e-6, 25e9)
GRADIENTS, FORWARD, BACKWARD, SAMPLES, BATCH = 102e6, 0.053 / 3, 2 * 0.053 / 3, 1_281_167, 64


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks allreduce", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2])
    parser.add_argument("--repetitions", type=int, default=21)
    parser.add_argument("--hidden", type=float, default=0.3,
                        help="share of the samples that a filter hides, for the model (default 0.3)")
    parser.add_argument("--output", default="benchmarks/results/allreduce.jsonl")
    parser.add_argument("--inside", action="store_true",
                        help="I am one of the ranks, started by srun or the like; else they are started here")
    words = parser.parse_args(words)
    if words.inside:
        return measure(words)
    for ranks in words.ranks:
        on_ranks("allreduce", ranks, ["--repetitions", words.repetitions, "--output", words.output])
    return at_scale(words)


def measure(words):
    """All sizes on these ranks in turns; one row for each library. MPI comes first: Horovod's thread, once it
    runs, takes time from it."""
    comm = world()
    horovod = Horovod(comm)
    tensors = {size: torch.ones(size // 4) for size in SIZES}
    libraries = {"MPI": lambda size: comm.sum(tensors[size].numpy()),
                 "Horovod": lambda size: horovod.sum(tensors[size], f"{size} bytes")}
    for library, way in libraries.items():
        ways = {size: partial(way, size) for size in SIZES}
        interleaved(ways, 3, comm)  # buffers, connections and Horovod's agreements are made
        seconds = interleaved(ways, words.repetitions, comm)
        median = np.array([statistics.median(seconds[size]) for size in SIZES])
        model = fit(SIZES, median, comm.size)
        held_out = fit(SIZES[::2], median[::2], comm.size).error(SIZES[1::2], median[1::2])
        error = model.error(SIZES, median)
        if comm.rank == 0:
            write(words.output, "allreduce", {"library": library}, ranks=comm.size,
                  repetitions=words.repetitions, unit="bytes, seconds",
                  sizes=SIZES, seconds=median.tolist(), edges=model.edges, lines=model.lines,
                  error={"most": float(error.max()), "median": float(np.median(error)),
                         "held out, most": float(held_out.max())})
            print(f"{library} on {comm.size} ranks, median of {words.repetitions}")
            for size, took, modelled in zip(SIZES, median, model.seconds(SIZES), strict=True):
                print(f"  {size:>9} B  {1e6 * took:10.1f} us  "
                      f"{2 * (comm.size - 1) / comm.size * size / took / 1e9:6.2f} GB/s  modelled "
                      f"{1e6 * modelled:10.1f} us ({100 * (modelled / took - 1):+.0f} %)")
            print(f"  {len(model.lines)} lines; error at most {100 * error.max():.1f} %; fitted to every "
                  f"second size, at most {100 * held_out.max():.1f} % on the others", flush=True)
    comm.close()


def at_scale(words):
    """The model on up to 27,648 ranks: with a machine's links by their makers' figures, and with one that is
    fitted to what was measured here."""
    most = max(words.ranks)
    here = fits(read_results(words.output))[most].link()
    for links, inside, between in (("makers' figures", INSIDE, BETWEEN),
                                   (f"as fitted to Horovod's allreduce on {most} ranks here", here, here)):
        carry(words, links, inside, between)


def carry(words, links, inside, between):
    """One table: a step, its efficiency and an epoch, with and without a filter."""
    step = Step(FORWARD, BACKWARD)
    print(f"modelled: gradients of {GRADIENTS / 1e6:.0f} MB, {NODE} ranks per node, "
          f"a step of {1e3 * step.alone:.0f} ms alone; links {links}: {1e6 * between.latency:.3g} us, "
          f"{between.bandwidth / 1e9:.3g} GB/s")
    print(f"{'ranks':>7}  {'flat ring':>24}  {'tree':>24}  {'hierarchical':>24}   epoch s, hierarchical: "
          f"all, {words.hidden:g} hidden")
    for ranks in SCALES:
        seconds = ways(GRADIENTS, ranks // NODE, NODE, inside, between)
        efficiency = {name: float(step.efficiency(took)) for name, took in seconds.items()}
        epochs = [float(epoch_seconds(SAMPLES, share, BATCH * ranks, step, seconds["hierarchical"], more))
                  for share, more in ((0.0, 0.0), (words.hidden, selection_seconds(ranks, between)))]
        about = {"gradients": GRADIENTS, "per node": NODE, "hidden": words.hidden, "links": links}
        write(words.output, "allreduce", about, ranks=ranks, unit="seconds, share", modelled=True,
              seconds={name: float(took) for name, took in seconds.items()}, efficiency=efficiency,
              epoch_seconds=epochs)
        cells = "  ".join(f"{1e3 * float(seconds[name]):9.1f} ms, eff. {efficiency[name]:.2f}"
                          for name in seconds)
        print(f"{ranks:>7}  {cells}   {epochs[0]:.3f}, {epochs[1]:.3f}")
