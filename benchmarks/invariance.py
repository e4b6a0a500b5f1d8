"""The same selection and the same global batches on any number of real ranks: the digests of one
epoch's row, side by side.

The weights of a network trained on 1, 2, 3 and 4 ranks differ in their last bits (sums of floats), and so in
time would its scores. What must not differ is what follows from equal scores; so one run is scored once, and
every number of ranks goes on from that checkpoint.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from benchmarks.demo import packed
from benchmarks.results import train, write
from hpcfilter.base.errors import BrokenInvariant

RUN = Path(__file__).parent.parent / "jobs" / "runs" / "fashion_mnist.toml"


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks invariance", description=__doc__)
    parser.add_argument("--data", default="digits",
                        help="digits, a packed file, or anything that `hpcfilter pack` reads")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--output", default="benchmarks/results/invariance.jsonl")
    words = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = {"data.path": packed(words.data, folder), "data.augment": "none", "train.epochs": 1,
                    "train.global_batch": 240}
        train(2, RUN, folder / "first", settings, timeout=600)
        digests = {}
        for ranks in words.ranks:
            shutil.copytree(folder / "first", folder / str(ranks))
            _, epochs, _ = train(ranks, RUN, folder / str(ranks), {**settings, "train.epochs": 2},
                                 timeout=600, resume=True)
            row = epochs[-1]
            digests[ranks] = row["selection"], row["batches"]
            write(words.output, "invariance", {"data": Path(words.data).name, "policy": "kakurenbo",
                                               "epoch": 1}, ranks=ranks, selection=row["selection"],
                  batches=row["batches"], hidden=row["hidden"], steps=row["steps"], unit="digest")
            print(f"{ranks} ranks  hidden {row['hidden']}  selection {row['selection']}  batches "
                  f"{row['batches']}", flush=True)
    if len(set(digests.values())) != 1:
        raise BrokenInvariant(f"the digests differ: {digests}")
