"""What hiding a share F of the samples does to the time of an epoch, against the same run without a
filter, whole runs in turns.

KAKURENBO with `refresh = "none"`: the scores come from the training steps alone, and the hidden share of each
epoch is what its record says. Seconds are those of selection, training and scoring; the first two epochs, in
which little is known, are left out.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.loop import PHASES, RUN
from benchmarks.results import spread, train, write

SKIP = 2


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks epoch", description=__doc__)
    parser.add_argument("--data", required=True, help="packed file")
    parser.add_argument("--config", default=RUN, help="run config (default: jobs/runs/fashion_mnist.toml)")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.3, 0.5])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=4)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=VALUE")
    parser.add_argument("--output", default="benchmarks/results/epoch.jsonl")
    words = parser.parse_args(words)
    runs = {fraction: [] for fraction in (0.0, *words.fractions)}
    for number in range(words.repetitions):
        for fraction in list(runs)[:: -1 if number % 2 else 1]:
            runs[fraction].append(once(words, fraction))
            print(f"fraction {fraction}: {runs[fraction][-1]['seconds']:.3f} s per epoch, "
                  f"hidden {runs[fraction][-1]['hidden']:.3f}", flush=True)
    for fraction in words.fractions:
        pairs = list(zip(runs[fraction], runs[0.0], strict=True))
        ratio = spread([run["seconds"] / base["seconds"] for run, base in pairs])
        hidden, overhead = pairs[0][0]["hidden"], spread([run["overhead"] for run, _ in pairs])
        write(words.output, "epoch", {"data": Path(words.data).name, "fraction": fraction,
                                      "epochs": words.epochs, "settings": words.settings},
              ranks=words.ranks, repetitions=words.repetitions, unit="share", hidden=hidden, ratio=ratio,
              overhead=overhead, seconds={"filtered": [run["seconds"] for run, _ in pairs],
                                          "all": [base["seconds"] for _, base in pairs]})
        print(f"hidden {hidden:.3f}: {ratio['median']:.3f} of the time ({ratio['min']:.3f} to "
              f"{ratio['max']:.3f}), 1 - F is {1 - hidden:.3f}; selection, scoring and sending home "
              f"{100 * overhead['median']:.2f} % of the epoch")


def once(words, fraction):
    """One run: mean seconds per epoch, hidden share, and what selection and scoring take of it."""
    table = (f'{{policy="kakurenbo", fraction={fraction}, factors=[1.0], tau=0.0, refresh="none", lr="none"}}'
             if fraction else '{policy="none"}')
    with tempfile.TemporaryDirectory() as folder:
        settings = {"data.path": words.data, "filter": table, "train.epochs": words.epochs + SKIP,
                    "data.verify": "false"}
        settings.update(setting.split("=", 1) for setting in words.settings)
        run, epochs, _ = train(words.ranks, words.config, Path(folder) / "run", settings, timeout=3600)
    epochs = epochs[SKIP:]
    seconds = {phase: sum(row["seconds"][phase] for row in epochs) for phase in PHASES}
    total = sum(seconds.values())
    return {"seconds": total / len(epochs), "hidden": sum(row["hidden"] for row in epochs) / len(epochs)
            / run["samples"], "overhead": (total - seconds["train"]) / total}
