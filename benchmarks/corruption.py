"""Single corruptions of the files that a run relies on, one at a time: how many are detected before
anything of the file is used.

    bit flip     one bit at a random place of a random file
    truncation   a random file cut to a random length
    zero length  each file, emptied
    swapped      each file, replaced by its namesake of another target of the kind
    mixed        all files but one of a checkpoint, replaced by those of another one

Detected: reading raises InputError. Silent: reading goes through. Crashed: reading raises anything else.
Exits with 1 when one was silent or crashed, and refuses targets that cannot be read uncorrupted.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.results import train, write
from hpcfilter.base.errors import InputError
from hpcfilter.data import open_packed, read_given, write_table
from hpcfilter.pack.pack import pack
from hpcfilter.train.checkpoint import ends_epoch, generations, read_stamp

OUTCOMES = ("detected", "silent", "crashed")
ROWS = 400
TIMEOUT = 120  # seconds for a run that makes checkpoints


@dataclass
class Target:
    """Files that are read together. The corruptions are made in place, and undone."""

    name: str
    files: list[Path]
    read: Callable  # () -> reads the files, must raise InputError when one of them is corrupt
    others: tuple = ()  # paths, one for each file: what is swapped in


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks corruption", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=800, help="random corruptions of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="benchmarks/results/corruption.jsonl")
    words = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        cells = {(target.name, kind): counts for target in targets(Path(folder))
                 for kind, counts in corrupt(target, words.count, words.seed).items()}
    print(f"{'target':18} {'corruption':12} {'tried':>6} "
          + " ".join(f"{outcome:>8}" for outcome in OUTCOMES))
    for (name, kind), counts in cells.items():
        write(words.output, "corruption", {"target": name, "corruption": kind, "seed": words.seed},
              tried=counts.total(), **{outcome: counts[outcome] for outcome in OUTCOMES})
        print(f"{name:18} {kind:12} {counts.total():6} "
              + " ".join(f"{counts[outcome]:8}" for outcome in OUTCOMES))
    total = sum(cells.values(), Counter())
    print(f"{'all':31} {total.total():6} " + " ".join(f"{total[outcome]:8}" for outcome in OUTCOMES))
    sys.exit(0 if total["detected"] == total.total() else 1)


def targets(folder):
    """One target of each kind, made in a folder."""
    yield packed(folder)
    yield from tables(folder)
    yield from checkpoints(folder)


def packed(folder):
    rng = np.random.default_rng(0)
    np.savez(folder / "source.npz", x=rng.integers(0, 256, (ROWS, 96, 96), dtype=np.uint8),
             y=rng.integers(0, 10, ROWS))
    pack(folder / "source.npz", folder / "packed.h5")
    return Target("packed data", [folder / "packed.h5"],
                  lambda: open_packed(folder / "packed.h5").check(0, 1, verify=True))


def tables(folder):
    """A table of scores and one of a selection; the ones swapped in belong to another data set."""
    rng = np.random.default_rng(0)
    for name, columns, about in (("scores", {"importance": rng.random(ROWS, np.float32)}, {"score": "loss"}),
                                 ("selection", {"keep": np.ones(ROWS, np.uint8),
                                                "weight": np.ones(ROWS, np.float32)}, {"kept": ROWS})):
        paths = {data: folder / f"{name} of {data}.h5" for data in ("this", "that")}
        for data, path in paths.items():
            write_table(path, ROWS, {column: (values.dtype, [values]) for column, values in columns.items()},
                        {**about, "data": data})
        yield Target(f"table of {name}", [paths["this"]], lambda path=paths["this"],
                     names=tuple(columns): read_given(path, names, range(ROWS), ROWS, "this"),
                     (paths["that"],))


def checkpoints(folder):
    """A checkpoint of the end of an epoch, and one of inside an epoch; what is swapped in is from
    a run of another seed."""
    pack("digits", folder / "digits.h5")
    (folder / "run.toml").write_text(f'[data]\npath = "{folder / "digits.h5"}"\n[model]\nwidth = 4\n[train]\n'
                                     'epochs = 2\nglobal_batch = 120\n')
    for seed in (0, 1):
        train(1, folder / "run.toml", folder / f"run{seed}", {"seed": seed, "train.epochs": 1}, TIMEOUT)
        # A deadline that has passed: the run leaves inside the second epoch.
        train(1, folder / "run.toml", folder / f"run{seed}", {"seed": seed}, TIMEOUT, resume=True,
              HPCFILTER_DEADLINE="1")
    for this in generations(folder / "run0" / "checkpoints"):
        that = folder / "run1" / "checkpoints" / this.name
        files = sorted(this.iterdir())
        yield Target(f"{'end' if ends_epoch(this) else 'inside'} of an epoch", files,
                     lambda this=this: read_stamp(this), tuple(that / file.name for file in files))


def corrupt(target, count, seed):
    """Try `count` random corruptions of a target, and those of which there is one for each file. Returns
    corruption -> Counter of outcomes."""
    if outcome(target) != "silent":
        raise InputError(f"{target.name}: cannot be read uncorrupted: {outcome(target)}")
    rng, cells = random.Random(f"{seed} {target.name}"), {}

    def attempt(kind, file, change):
        """change: function (bytearray) -> bytes."""
        whole = file.read_bytes()
        file.write_bytes(change(bytearray(whole)))
        cells.setdefault(kind, Counter())[outcome(target)] += 1
        file.write_bytes(whole)

    for number in range(count):
        kind, change = ("truncation", truncated) if number % 4 == 3 else ("bit flip", flipped)
        attempt(kind, rng.choice(target.files), lambda data, change=change: change(data, rng))
    for file in target.files:
        attempt("zero length", file, lambda data: b"")
    for file, other in zip(target.files, target.others, strict=bool(target.others)):
        attempt("swapped", file, lambda data, other=other: other.read_bytes())
    if len(target.others) > 1:
        whole = {file: file.read_bytes() for file in target.files}
        for stays in target.files:
            for file, other in zip(target.files, target.others, strict=True):
                file.write_bytes(whole[file] if file == stays else other.read_bytes())
            cells.setdefault("mixed", Counter())[outcome(target)] += 1
        for file, data in whole.items():
            file.write_bytes(data)
    return cells


def flipped(data, rng):
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def truncated(data, rng):
    return data[: rng.randrange(len(data))]


def outcome(target):
    try:
        target.read()
    except InputError:
        return "detected"
    except Exception:
        return "crashed"
    return "silent"
