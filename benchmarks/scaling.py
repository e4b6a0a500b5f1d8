"""A scaling study on local ranks: weak (equal batch per rank) and strong (equal global batch), with and
without a filter, all sizes in turns.

Every run stays in the folder, so that `hpcfilter report FOLDER/weak` shows it again, draws it and writes a
proposal page. On a machine with a scheduler the same study is `hpcfilter jobs submit run.toml --nodes 1,2,4,8
--repeats 3`, with `train.batch` (weak) or `train.global_batch` (strong).
"""

import argparse
import os
from pathlib import Path

from benchmarks.loop import RUN
from benchmarks.results import train, write
from hpcfilter.base.errors import InputError
from hpcfilter.study.report import fits, read_results, scaling_tables, study
from hpcfilter.study.report.study import bases
from hpcfilter.train.config import load


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks scaling", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="packed file")
    parser.add_argument("--config", default=RUN, help="run config (default: jobs/runs/fashion_mnist.toml)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kinds", nargs="+", choices=["weak", "strong"], default=["weak", "strong"])
    parser.add_argument("--batch", type=int, default=128,
                        help="samples per rank of the smallest size (default 128)")
    parser.add_argument("--fraction", type=float, default=0.3, help="that KAKURENBO hides (default 0.3)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=VALUE")
    parser.add_argument("--allreduce", default="benchmarks/results/allreduce.jsonl",
                        help="measured allreduces, for the model")
    parser.add_argument("--folder", default="runs/scaling", help="where the runs are kept; finished ones are "
                                                                 "not run again (default runs/scaling)")
    parser.add_argument("--output", default="benchmarks/results/scaling.jsonl")
    words = parser.parse_args(words)
    allreduces = fits(read_results(words.allreduce)) if Path(words.allreduce).exists() else {}
    for kind in words.kinds:
        runs = run_all(words, kind)
        points, target = study(runs)
        for point in points:
            record(words, kind, point, bases(points)[point.policy], allreduces)
        print("\n\n".join(table.text() for table in scaling_tables(points, target, allreduces)), flush=True)


def run_all(words, kind):
    """Train every size and policy in turns; finished runs are left as they are. Returns the run folders."""
    policies = {"none": '{policy="none"}', "kakurenbo": f'{{policy="kakurenbo", fraction={words.fraction}}}'}
    folders = []
    for number in range(words.repetitions):
        for ranks in words.ranks[:: -1 if number % 2 else 1]:
            for policy, table in policies.items():
                folder = Path(words.folder) / kind / policy / f"ranks-{ranks}" / f"repeat-{number}"
                folders.append(folder)
                once(words, kind, ranks, table, number, folder)
                print(f"{folder}: done", flush=True)
    return folders


def once(words, kind, ranks, table, seed, folder):
    """One run, one thread per rank, so that the ranks of all sizes are alike."""
    whole = words.batch * (ranks if kind == "weak" else words.ranks[0])
    settings = {"data.path": words.data, "data.verify": "false", "filter": table,
                "train.epochs": words.epochs, "train.global_batch": whole, "seed": seed}
    settings.update(setting.split("=", 1) for setting in words.settings)
    folder.mkdir(parents=True, exist_ok=True)
    config, text = folder / "run.toml", load(words.config,
                                             [f"{key}={value}" for key, value in settings.items()]).toml()
    if config.exists() and config.read_text() != text:
        raise InputError(f"{config}: is of a study with other settings; give another --folder")
    config.write_text(text)
    if (folder / "DONE").exists():
        return
    train(ranks, config, folder, {}, timeout=3600, resume=(folder / "metrics.jsonl").exists(),
          OMP_NUM_THREADS="1")


def record(words, kind, point, base, allreduces):
    """The JSON line of one point. Intervals are (mean, half of the 95 % interval)."""
    fit = allreduces.get(point.ranks)
    modelled = float(fit.seconds(point.bytes["gradients"] / point.steps)) if fit and point.ranks > 1 else None
    about = {"kind": kind, "policy": point.policy, "data": Path(words.data).name,
             "global batch": point.global_batch, "epochs": words.epochs, "threads per rank": 1}
    write(words.output, "scaling", about, ranks=point.ranks, repetitions=words.repetitions,
          unit="samples/s, share, seconds, bytes", rate=point.rate, speedup=point.rate.mean / base.rate.mean,
          efficiency=point.efficiency(base), hidden=point.hidden, epoch=point.epoch, step=point.parts,
          phases=point.phases, bytes=point.bytes, allreduce_modelled=modelled, accuracy=point.accuracy,
          joules=point.joules, oversubscribed=point.ranks > (os.cpu_count() or 1),
          trained_at=sorted({str(record.run["commit"]) for record in point.records}))
