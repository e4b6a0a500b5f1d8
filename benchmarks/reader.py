"""Filtered, shuffled rows from a packed file against np.take from memory and against the ways of h5py;
bytes read from a cold disk.

    take             np.take from an array in memory into a buffer: the limit
    rows             hpcfilter's rows of a memory map, in the read-ahead thread's own way
    dset[i]          one sample after the other by h5py
    dset[sorted]     a batch at once by h5py's fancy indexing, which wants increasing indices
    DataLoader, w=n  torch's DataLoader over a data set of dset[i], in the same order, with n workers

Chunked and compressed files are a source only: pack decodes their chunks in the order of the file and writes
contiguous rows, of which training reads those that it wants. Counted is how often a chunk is decoded by pack,
and in an epoch of the packed file.
"""

import argparse
import os
import tempfile
from collections import Counter
from pathlib import Path
from unittest import mock

import h5py
import numpy as np

from benchmarks.peers import by_sorted_batch, loader, one_by_one
from benchmarks.results import interleaved, spread, write
from hpcfilter.base.randomness import Permutation
from hpcfilter.data import open_packed
from hpcfilter.pack.chunked import Chunked
from hpcfilter.pack.pack import pack

BATCH = 256
SHARE = 20  # the slow ways read one in so many of the batches
CHUNKED, CHUNK = 10_000, 64  # rows of the chunked file at most, and of a chunk


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks reader", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=40_000)
    parser.add_argument("--shape", type=int, nargs="+", default=[32, 32, 3],
                        help="of a uint8 sample (default 32 32 3: 3 KB)")
    parser.add_argument("--kept", type=float, default=0.7,
                        help="share of the samples that are read (default 0.7)")
    parser.add_argument("--repetitions", type=int, default=21)
    parser.add_argument("--folder", help="where the file is made (default: a temporary folder)")
    parser.add_argument("--output", default="benchmarks/results/reader.jsonl")
    words = parser.parse_args(words)
    with tempfile.TemporaryDirectory(dir=words.folder) as folder:
        path = make(Path(folder), words.samples, words.shape)
        warm(path, words)
        cold(path, words)
        chunks(Path(folder), words)


def make(folder, samples, shape):
    """A packed file of noise."""
    rng = np.random.default_rng(0)
    source = {f"{name}_{split}": values for split, rows in (("train", samples), ("test", 64))
              for name, values in (("x", rng.integers(0, 256, (rows, *shape), np.uint8)),
                                   ("y", rng.integers(0, 10, rows)))}
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

    few = parts[: max(1, len(parts) // SHARE)]
    slow = {"dset[i]": lambda: one_by_one(path, few), "dset[sorted]": lambda: by_sorted_batch(path, few)}
    slow |= {f"DataLoader, w={workers}": loader(path, np.concatenate(few), BATCH, workers)
             for workers in (0, 2)}
    ways = {"take": lambda: [np.take(memory, part, axis=0, out=buffer[: len(part)], mode="clip")
                             for part in parts], "rows": lambda: each(split.rows, parts), **slow}
    interleaved(ways, 2)
    seconds = interleaved(ways, words.repetitions)
    done = {name: sum(map(len, few if name in slow else parts)) for name in ways}
    rate = {name: done[name] / spread(values)["median"] for name, values in seconds.items()}
    ratio = {f"rows / {name}": rate["rows"] / rate[name] for name in rate if name != "rows"}
    size = int(np.prod(words.shape))
    about = {"samples": words.samples, "bytes": size, "kept": words.kept, "batch": BATCH, "cache": "warm"}
    write(words.output, "reader", about, repetitions=words.repetitions, unit="samples/s", rate=rate,
          ratio=ratio, seconds={name: spread(values) for name, values in seconds.items()})
    for name, value in rate.items():
        times = f"   rows is {ratio[f'rows / {name}']:.2f} times that" if name != "rows" else ""
        print(f"{name:16} {value:12.0f} samples/s  {value * size / 1e9:7.3f} GB/s{times}")


def each(way, parts):
    """Read batch by batch, as training does: none is kept."""
    for part in parts:
        way(part)


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
    write(words.output, "reader",
          {"samples": words.samples, "bytes": size, "kept": words.kept, "batch": BATCH, "cache": "cold"},
          unit="bytes", wanted=wanted, disk=found["kept"], disk_all=found["all"])
    print(f"cold: {wanted / 1e6:.1f} MB wanted, {found['kept'] / 1e6:.1f} MB read from the disk "
          f"({found['kept'] / max(wanted, 1):.3f}); the whole epoch {found['all'] / 1e6:.1f} MB")


def chunks(folder, words):
    """How often each chunk of a chunked gzip file is decoded: by pack, and in an epoch of
    what it has packed."""
    rng, rows = np.random.default_rng(0), min(words.samples, CHUNKED)
    arrays = {"images": rng.integers(0, 4, (rows, *words.shape), np.uint8),
              "labels": rng.integers(0, 10, rows)}
    with h5py.File(folder / "chunked.h5", "w") as file:
        for split in ("train", "test"):
            for name, values in arrays.items():
                file.create_dataset(f"{split}/{name}", data=values, chunks=(CHUNK, *values.shape[1:]),
                                    compression="gzip")
    decoded, decode = Counter(), Chunked._decode

    def counted(self, corner):
        decoded[h5py.h5i.get_name(self._data).decode(), corner] += 1
        return decode(self, corner)

    with mock.patch.object(Chunked, "_decode", counted):
        pack(folder / "chunked.h5", folder / "unchunked.h5")
        packing = decoded.copy()
        decoded.clear()
        split = open_packed(folder / "unchunked.h5").train
        for part in batches(rows, words.kept):
            split.rows(part)
    counts = {}
    for name in arrays:
        times = [number for (array, _), number in packing.items() if array.endswith(name)]
        counts[name] = {"chunks": len(times), "decoded": sum(times), "most": max(times)}
        print(f"pack of a chunked gzip file: {len(times)} chunks of {name} decoded "
              f"{sum(times) / len(times):.2f} times each, {max(times)} at most; "
              f"in an epoch {decoded.total()}")
    about = {"source": "chunked, gzip", "samples": 2 * rows, "bytes": int(np.prod(words.shape)),
             "chunk": CHUNK, "kept": words.kept}
    write(words.output, "reader", about, unit="chunks", **counts["images"], labels=counts["labels"],
          in_an_epoch=decoded.total())


def forget(path):
    """Have the system drop a file from its cache."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_from_disk():
    """Bytes that this process has had fetched from a disk so far."""
    return int(next(line.split()[1] for line in Path("/proc/self/io").read_text().splitlines()
                    if line.startswith("read_bytes")))
