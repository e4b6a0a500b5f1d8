"""What a cheaper refresh costs in freshness: KAKURENBO with every refresh rule, its last scores against those
of a forward pass over everything.

    looks    forward-only passes per sample and epoch
    moved    of the samples that the stored scores hide, the share that fresh scores of the
             same network would train
    error    mean |stored loss - fresh loss| of the hidden samples, in units of the mean fresh loss of all
    wrong    share of the hidden samples that the network now predicts wrong
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.demo import packed
from benchmarks.results import train, write
from hpcfilter.cli import main as hpcfilter
from hpcfilter.comm import SerialComm
from hpcfilter.data import read_table
from hpcfilter.select.policies.kakurenbo import kakurenbo
from hpcfilter.select.scores import Scores

RUN = Path(__file__).parent.parent / "jobs" / "runs" / "fashion_mnist.toml"
RULES = {"all": {}, "slice": {"refresh": "slice", "refresh_every": 4},
         "near": {"refresh": "near", "refresh_every": 4}, "none": {"refresh": "none"}}


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks staleness", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="packed file, or anything that `hpcfilter pack` reads")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--fraction", type=float, default=0.4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--output", default="benchmarks/results/staleness.jsonl")
    words = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        data = packed(words.data, Path(temporary))
        for seed in range(words.seeds):
            for rule in RULES:
                result = once(rule, seed, data, Path(temporary) / f"{rule}{seed}", words)
                print(f"seed {seed}  {rule:6} accuracy {100 * result['accuracy']:.2f} %  passes saved "
                      f"{100 * result['saved']:.1f} %  looks {result['looks']:.3f}  moved "
                      f"{100 * result['moved']:.2f} %  error {result['error']:.3f}  wrong "
                      f"{100 * result['wrong']:.2f} %", flush=True)


def once(rule, seed, data, folder, words):
    # A constant share hidden, so that the last epoch is like the others.
    parameters = {"policy": "kakurenbo", "fraction": words.fraction, "factors": [1.0], **RULES[rule]}
    table = ", ".join(f"{key} = {value!r}" for key, value in parameters.items())
    settings = {"data.path": data, "seed": seed, "train.epochs": words.epochs, "filter": f"{{{table}}}"}
    run, _, end = train(words.ranks, RUN, folder, settings, timeout=3600)
    stored, *_ = read_table(folder / "checkpoints" / f"epoch-{words.epochs - 1:05d}" / "scores.h5")
    hpcfilter(["score", str(folder)])
    fresh, *_ = read_table(folder / "scores.h5")
    hidden, fresh_hidden = (~selection(columns, words) for columns in (stored, fresh))
    error = np.abs(stored["importance"] - fresh["importance"])[hidden].mean() / fresh["importance"].mean()
    return write(words.output, "staleness",
                 {"rule": rule, **parameters, "seed": seed, "epochs": words.epochs}, ranks=words.ranks,
                 data=run["data"], accuracy=end["accuracy"], saved=1 - end["passes"] / words.epochs,
                 looks=end["looks"] / words.epochs, hidden=int(hidden.sum()),
                 moved=float((hidden & ~fresh_hidden).sum() / hidden.sum()), error=float(error),
                 wrong=float(1 - fresh["correct"][hidden].mean()), unit="share")


def selection(columns, words):
    """The samples that KAKURENBO keeps in the epoch after the last one."""
    scores = Scores(range(len(columns["importance"])), len(columns["importance"]))
    scores.importance, scores.confidence, scores.correct = (columns["importance"], columns["confidence"],
                                                            columns["correct"] > 0)
    return kakurenbo(scores, words.epochs, 0, SerialComm(), epochs=words.epochs, fraction=words.fraction,
                     factors=[1.0]).keep
