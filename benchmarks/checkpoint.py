"""What saving costs: seconds and bytes of a save, its share of the wall clock, and the
interval of Young and Daly.

    save           one run with a save inside the epoch every --seconds; both kinds of saves,
                   by their own clock
    deterministic  seconds of training per epoch with and without train.deterministic, runs in turns
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.demo import packed
from benchmarks.results import train, write
from hpcfilter.train.checkpoint import generations, young_daly

RUN = Path(__file__).parent.parent / "jobs" / "runs" / "fashion_mnist.toml"
TIMEOUT = 1800  # seconds for one run


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks checkpoint", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="packed file, or anything that `hpcfilter pack` reads")
    parser.add_argument("--model", default="cnn", help="cnn or resnet18")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="between two saves inside an epoch")
    parser.add_argument("--mtbf-hours", type=float, default=3)
    parser.add_argument("--deterministic", type=int, default=0, metavar="PAIRS",
                        help="pairs of runs with and without train.deterministic")
    parser.add_argument("--output", default="benchmarks/results/checkpoint.jsonl")
    words = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = {"data.path": packed(words.data, folder),
                    "model": f'{{name="{words.model}", width={words.width}}}', "train.epochs": words.epochs,
                    "checkpoint.mtbf_hours": words.mtbf_hours}
        about = {"data": Path(words.data).name, "model": words.model, "width": words.width,
                 "epochs": words.epochs}
        if words.deterministic:
            deterministic(folder, settings, about, words)
        else:
            save(folder, settings, about, words)


def save(folder, settings, about, words):
    settings = {**settings, "checkpoint.seconds": words.seconds, "checkpoint.keep": 3}
    _, epochs, end = train(words.ranks, RUN, folder / "run", settings, timeout=TIMEOUT)
    sizes = {path.name: sum(file.stat().st_size for file in path.iterdir())
             for path in generations(folder / "run" / "checkpoints")}
    cost, wall = end["checkpoints"], end["seconds"]
    for mtbf in (words.mtbf_hours, 24):
        interval, loss = young_daly(cost["seconds_each"], 3600 * mtbf)
        print(f"failures every {mtbf:g} h: save every {interval:.0f} s; "
              f"saving costs {100 * cost['seconds_each'] / interval:.2f} %, with the work lost "
              f"{100 * loss:.2f} % (modelled)")
    write(words.output, "checkpoint", {**about, "every_seconds": words.seconds,
                                       "mtbf_hours": words.mtbf_hours}, ranks=words.ranks, **cost, wall=wall,
          bytes=sizes, in_epochs=sum(row["seconds"]["checkpoint"] for row in epochs), unit="s")
    print(f"{cost['saves']} saves of {cost['seconds_each']:.3f} s in {wall:.1f} s ({100 * cost['share']:.1f} "
          f"%); bytes {sizes}")


def deterministic(folder, settings, about, words):
    seconds = {"true": [], "false": []}
    for number in range(words.deterministic):
        for value, times in seconds.items():
            _, epochs, _ = train(words.ranks, RUN, folder / f"{value}{number}",
                                 {**settings, "train.deterministic": value}, timeout=TIMEOUT)
            times.append(statistics.median(row["seconds"]["train"] for row in epochs))
    ratios = [with_it / without for with_it, without in zip(seconds["true"], seconds["false"], strict=True)]
    write(words.output, "deterministic", about, ranks=words.ranks, seconds=seconds, ratios=ratios,
          unit="s per epoch")
    print(f"{words.ranks} ranks: {statistics.median(seconds['false']):.2f} s per epoch, "
          f"deterministic {statistics.median(seconds['true']):.2f} s; "
          f"ratios {', '.join(f'{ratio:.3f}' for ratio in ratios)}")
