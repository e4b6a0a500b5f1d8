"""Filtered, shuffled rows from a packed file against np.take from memory and against the ways of h5py; bytes read from a cold disk.

    take         np.take from an array in memory into a buffer: the limit
    rows         hpcfilter's rows of a memory map, in the read-ahead thread's own way
    dset[i]      one sample after the other by h5py
    dset[sorted] a batch at once by h5py's fancy indexing, which wants increasing indices
"""

import argparse
import os
import tempfile
from pathlib import Path

import h5py
import numpy as np

from benchmarks.results import interleaved, spread, write
from hpcfilter.data import open_packed
from hpcfilter.data.pack import pack
from hpcfilter.randomness import Permutation

BATCH = 256


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks reader", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=40_000)
    parser.add_argument("--shape", type=int, nargs="+", default=[32, 32, 3], help="of a uint8 sample (default 32 32 3: 3 KB)")
    parser.add_argument("--kept", type=float, default=0.7, help="share of the samples that are read (default 0.7)")
    parser.add_argument("--repetitions", type=int, default=21)
    parser.add_argument("--folder", help="where the file is made (default: a temporary folder)")
    parser.add_argument("--output", default="benchmarks/results/reader.jsonl")
    words = parser.parse_args(words)
    with tempfile.TemporaryDirectory(dir=words.folder) as folder:
        path = make(Path(folder), words.samples, words.shape)
        warm(path, words)
        cold(path, words)


def make(folder, samples, shape):
    """A packed file of noise."""
    rng = np.random.default_rng(0)
    source = {f"{name}_{split}": values for split, rows in (("train", samples), ("test", 64))
              for name, values in (("x", rng.integers(0, 256, (rows, *shape), np.uint8)), ("y", rng.integers(0, 10, rows)))}
    np.savez(folder / "source.npz", **source)
    pack(folder / "source.npz", folder / "packed.h5")
    (folder / "source.npz").unlink()
    return folder / "packed.h5"


def batches(samples, kept):
    """The kept samples in the order of an epoch, cut into batches."""
    order = Permutation(samples, 0, 0)(np.arange(int(kept * samples)))
    return np.split(order, range(BATCH, len(order), BATCH))


def warm(path, words):
    """Everything is in the page cache."""
    split, parts = open_packed(path).train, batches(words.samples, words.kept)
    memory, buffer = np.array(split.images), np.empty((BATCH, *words.shape), np.uint8)

    def slow(way, share):
        with h5py.File(path) as file:
            data = file["train/images"]
            for part in parts[: max(1, len(parts) // share)]:
                way(data, part)

    ways = {"take": lambda: [np.take(memory, part, axis=0, out=buffer[: len(part)], mode="clip") for part in parts],
            "rows": lambda: [split.rows(part) for part in parts],
            "dset[i]": lambda: slow(lambda data, part: [data[i] for i in part], 20),
            "dset[sorted]": lambda: slow(lambda data, part: data[np.sort(part)], 20)}
    interleaved(ways, 2)
    seconds = interleaved(ways, words.repetitions)
    done = {name: sum(map(len, parts if name in ("take", "rows") else parts[: max(1, len(parts) // 20)])) for name in ways}
    rate = {name: done[name] / spread(values)["median"] for name, values in seconds.items()}
    ratio = {f"rows / {name}": rate["rows"] / rate[name] for name in rate if name != "rows"}
    size = int(np.prod(words.shape))
    about = {"samples": words.samples, "bytes": size, "kept": words.kept, "batch": BATCH, "cache": "warm"}
    write(words.output, "reader", about, repetitions=words.repetitions, unit="samples/s", rate=rate, ratio=ratio,
          seconds={name: spread(values) for name, values in seconds.items()})
    for name, value in rate.items():
        times = f"   rows is {ratio[f'rows / {name}']:.2f} times that" if name != "rows" else ""
        print(f"{name:14} {value:12.0f} samples/s  {value * size / 1e9:7.3f} GB/s{times}")


def cold(path, words):
    """Bytes that the kept rows are, and that the disk had to give for them."""
    size, parts = int(np.prod(words.shape)), batches(words.samples, words.kept)
    found = {}
    for name, kept in (("all", batches(words.samples, 1.0)), ("kept", parts)):
        rows = open_packed(path).train.rows
        forget(path)
        before = read_from_disk()
        for part in kept:
            rows(part)
        found[name] = read_from_disk() - before
    wanted = sum(map(len, parts)) * (size + 8)
    write(words.output, "reader", {"samples": words.samples, "bytes": size, "kept": words.kept, "batch": BATCH, "cache": "cold"},
          unit="bytes", wanted=wanted, disk=found["kept"], disk_all=found["all"])
    print(f"cold: {wanted / 1e6:.1f} MB wanted, {found['kept'] / 1e6:.1f} MB read from the disk ({found['kept'] / max(wanted, 1):.3f}); "
          f"the whole epoch {found['all'] / 1e6:.1f} MB")


def forget(path):
    """Have the system drop a file from its cache."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_from_disk():
    """Bytes that this process has had fetched from a disk so far."""
    return int(next(line.split()[1] for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("read_bytes")))
