"""Test accuracy and passes saved of several policies and seeds, with the baseline in the same table."""

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.results import train, write

RUN = Path(__file__).parent.parent / "jobs" / "runs" / "fashion_mnist.toml"
POLICIES = {"none": {}, "random": {"fraction": 0.22}, "kakurenbo": {"fraction": 0.3}}


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks accuracy", description=__doc__)
    parser.add_argument("--data", required=True, help="packed file")
    parser.add_argument("--config", default=RUN, help="run config (default: jobs/runs/fashion_mnist.toml)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--output", default="benchmarks/results/accuracy.jsonl")
    words = parser.parse_args(words)
    accuracy = {policy: [] for policy in words.policies}
    for seed in range(words.seeds):
        for policy in words.policies:  # interleaved, so that a slow hour of the machine meets all of them
            result = _once(policy, seed, words)
            accuracy[policy].append(100 * result["accuracy"])
            print(f"seed {seed}  {policy:10}  accuracy {100 * result['accuracy']:.2f} %  passes saved "
                  f"{100 * result['saved']:.1f} %  looks {result['looks']:.2f}  "
                  f"{result['seconds']['total']:.0f} s", flush=True)
    for policy, values in accuracy.items():
        spread = f" (sd {statistics.stdev(values):.2f})" if len(values) > 1 else ""
        print(f"{policy:10}  mean accuracy {statistics.mean(values):.2f} %{spread}, {len(values)} seeds")


def _once(policy, seed, words):
    table = ", ".join(f"{key} = {value!r}" for key, value in {"policy": policy, **POLICIES[policy]}.items())
    with tempfile.TemporaryDirectory() as folder:
        settings = {"data.path": words.data, "seed": seed, "train.epochs": words.epochs,
                    "filter": f"{{{table}}}"}
        run, epochs, end = train(words.ranks, words.config, Path(folder) / "run", settings, timeout=3600)
    seconds = {phase: round(sum(row["seconds"][phase] for row in epochs), 2)
               for phase in epochs[0]["seconds"]}
    parameters = {"policy": policy, **POLICIES[policy], "seed": seed, "epochs": words.epochs,
                  "config": Path(words.config).name}
    return write(words.output, "accuracy", parameters, ranks=words.ranks, data=run["data"],
                 accuracy=end["accuracy"], saved=1 - end["passes"] / words.epochs,
                 looks=end["looks"] / words.epochs, seconds=seconds, unit="share, seconds")
