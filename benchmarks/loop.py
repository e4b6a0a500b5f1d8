"""`hpcfilter train` without a filter against the minimal loop of its engine, whole runs in turns: same
network, batches, ranks. The minimal loops are benchmarks/minimal.py (Horovod) and minimal_ddp.py (torch).

Seconds of an epoch are those of selection, training and what follows it to the next selection, without
evaluation and checkpoint, which the minimal loop has not. The first epoch of each run is left out.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

from benchmarks.results import spread, train, write
from hpcfilter.base.errors import InputError
from hpcfilter.jobs import run_local
from hpcfilter.train.config import load

PHASES = "select", "rebalance", "train", "score"
RUN = Path(__file__).parent.parent / "jobs" / "runs" / "fashion_mnist.toml"


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks loop", description=__doc__)
    parser.add_argument("--data", required=True, help="packed file")
    parser.add_argument("--config", default=RUN, help="run config (default: jobs/runs/fashion_mnist.toml)")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--engine", choices=("horovod", "torch"), default="horovod")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=4)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=VALUE")
    parser.add_argument("--output", default="benchmarks/results/loop.jsonl")
    words = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(words, Path(folder))
    ratios = [least / ours for least, ours in zip(seconds["minimal"], seconds["hpcfilter"], strict=True)]
    ratio = spread(ratios)
    write(words.output, "loop", {"data": Path(words.data).name, "epochs": words.epochs,
                                 "engine": words.engine, "settings": words.settings}, ranks=words.ranks,
          repetitions=words.repetitions, unit="seconds per epoch", seconds=seconds, ratio=ratio)
    print(f"minimal / hpcfilter: {ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f}), "
          f"of {words.repetitions} pairs of runs")


def measure(words, folder):
    """name -> the mean seconds per epoch of each run."""
    settings = {"data.path": words.data, "data.augment": "none", "filter": '{policy="none"}',
                "train.epochs": words.epochs, "data.verify": "false", "schedule.name": "constant",
                "schedule.warmup_epochs": 0, "exchange.engine": words.engine}
    settings.update(setting.split("=", 1) for setting in words.settings)
    config = folder / "run.toml"
    config.write_text(load(words.config, [f"{key}={value}" for key, value in settings.items()]).toml())
    ways = {"minimal": lambda number: minimal(words, config),
            "hpcfilter": lambda number: ours(words, config, folder / f"run{number}")}
    seconds = {name: [] for name in ways}
    for number in range(words.repetitions):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            epochs = ways[name](number)[1:]
            seconds[name].append(sum(epochs) / len(epochs))
            print(f"{name:10} {seconds[name][-1]:.3f} s per epoch", flush=True)
    return seconds


def minimal(words, config):
    if words.engine == "horovod":
        done = run_local(words.ranks, ["-m", "benchmarks.minimal", config, words.epochs], 3600, capture=True)
    else:  # on the same cores and the same network as ours
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={words.ranks}"]
        done = run_local(1, [*launch, "-m", "benchmarks.minimal_ddp", config, words.epochs], 3600,
                         capture=True, OMP_NUM_THREADS=str(max(1, (os.cpu_count() or 1) // words.ranks)),
                         HPCFILTER_ALONE="0", GLOO_SOCKET_IFNAME="lo")
    if done.returncode:
        raise InputError(f"the minimal loop ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def ours(words, config, run_dir):
    _, epochs, _ = train(words.ranks, config, run_dir, {}, timeout=3600)
    return [sum(row["seconds"][phase] for phase in PHASES) for row in epochs]
