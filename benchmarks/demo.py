"""make demo: pack a data set, train it on two real ranks with and without a filter, and say in words what
the filter saved and cost.

Each training is repeated with several seeds, so that a difference can be told from the noise of a seed. All
of them run in one launch.
"""

import argparse
import shutil
import sys
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from benchmarks.results import on_ranks
from benchmarks.verdict import verdict
from hpcfilter.base.errors import InputError
from hpcfilter.base.files import replace_text
from hpcfilter.comm import world
from hpcfilter.data import is_packed, open_packed
from hpcfilter.jobs import run_local
from hpcfilter.pack.pack import pack
from hpcfilter.study.report import compare, page, picture, read_run

RUNS = Path(__file__).parent.parent / "jobs" / "runs"
TIMEOUT = 3600  # seconds for all trainings, or for the probe
PROBE = ("--what", "map,curvature,slices", "--samples", 2000, "--eigenvalues", 2, "--probes", 8,
         "--batch", 512, "--points", 21, "--grid", 9)


def main(words):
    words = _parsed(words)
    words.folder.mkdir(parents=True, exist_ok=True)
    if words.inside:
        _train_all(words)
        return
    print(_plan(words), flush=True)
    data = packed(words.data, words.folder)
    inside = ["--data", words.data, "--packed", data, "--seeds", words.seeds, "--folder", words.folder]
    on_ranks("demo", words.ranks, [*inside, *(["--epochs", words.epochs] if words.epochs else [])], TIMEOUT)
    dataset = open_packed(data)
    pairs = [[folder_of(words.folder, policy, seed) for policy in ("none", filtering(words.data, dataset))]
             for seed in range(words.seeds)]
    if words.probe:
        _probe(words.ranks, pairs[0][1])
    print(f"\nThe runs of seed 0, side by side:\n{compare(pairs[0]).text()}\n")
    print(verdict(pairs, len(dataset.test), "image" if dataset.layout else "row"))
    picture(pairs[0], words.folder / "demo.png")
    replace_text(words.folder / "report.html", page(pairs[0]))
    print(f"\n{words.folder / 'demo.png'}: accuracy and hidden share against the epoch")
    print(f"{words.folder / 'report.html'}: the runs of seed 0; open it in a browser")


def _parsed(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks demo", description=__doc__)
    parser.add_argument("--data", default="digits",
                        help="digits, a packed file, or anything that `hpcfilter pack` reads")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--epochs", type=int, help="default: 30 for digits, 5 for other data")
    parser.add_argument("--seeds", type=int, default=3,
                        help="how often each training is repeated (default 3)")
    parser.add_argument("--probe", action="store_true",
                        help="measure the landscape of the loss, too; it takes longer than the rest")
    parser.add_argument("--folder", type=Path, default=Path("runs/demo"), help="everything is left there")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--packed", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def _plan(words):
    """What will happen, and how long it takes: the first line that a newcomer reads."""
    how_long = "about 40 seconds on two idle cores" if words.data == "digits" and not words.epochs else \
        "how long depends on the data; each training says what it took"
    probe = "; then a probe of the landscape, about half a minute more" if words.probe else ""
    return (f"demo: {2 * words.seeds} short trainings of {words.data} on {words.ranks} real ranks, "
            f"{words.seeds} without a filter and {words.seeds} with one: {how_long}{probe}.")


def _train_all(words):
    """Train every policy with every seed, on all ranks of this launch. One line each, from rank 0."""
    from hpcfilter.train.run import train

    comm, dataset = world(), open_packed(words.packed)
    config, settings = _settings(words, dataset)
    policies = ("none", filtering(words.data, dataset))
    for number, (seed, policy) in enumerate(((seed, policy) for seed in range(words.seeds)
                                             for policy in policies), 1):
        folder = folder_of(words.folder, policy, seed)
        comm.on_first(lambda folder=folder: shutil.rmtree(folder, ignore_errors=True))
        start = time.perf_counter()
        try:
            with redirect_stdout(StringIO()):  # of the 30 lines of each training a newcomer needs none
                train(config, folder, comm, [*settings, f"seed={seed}", f'filter={{policy = "{policy}"}}'])
        except InputError as error:
            if comm.rank == 0:
                print(f"benchmarks demo: {error}", file=sys.stderr, flush=True)
            sys.exit(2)
        if comm.rank == 0:
            print(f"training {number} of {2 * words.seeds}: {'no filter' if policy == 'none' else policy}, "
                  f"seed {seed}: {_reached(folder)}, {time.perf_counter() - start:.1f} s", flush=True)
    comm.close()


def _reached(folder):
    """The test accuracy of a run, or its test loss, in words."""
    end = read_run(folder)[2]
    if end["accuracy"] is not None:
        return f"accuracy {100 * end['accuracy']:.2f} %"
    return "diverged" if end["test_loss"] is None else f"test loss {end['test_loss']:.4f}"


def _settings(words, dataset):
    """(run config, list of "a.b=value"). The small CNN wants images of 8 x 8 and more; all else
    is trained by the MLP."""
    settings = [f"data.path={words.packed}"]
    if words.data != "digits":
        settings += ["data.augment=none", "train.epochs=5"]
        if not dataset.layout or min(dataset.train.images.shape[1:3]) < 8:
            settings += ['model={name = "mlp"}']
    if words.epochs:
        settings += [f"train.epochs={words.epochs}"]
    return RUNS / ("digits.toml" if words.data == "digits" else "fashion_mnist.toml"), settings


def filtering(data, dataset):
    """The policy to show: KAKURENBO, which needs classes; else random choice."""
    return "kakurenbo" if data == "digits" or dataset.classes else "random"


def folder_of(folder, policy, seed):
    """The run folder of one training: that of seed 0 bears the name of the policy alone."""
    return folder / (policy if seed == 0 else f"{policy}-seed{seed}")


def _probe(ranks, run_dir):
    print("\nmeasuring the landscape of the loss ...", flush=True)
    done = run_local(ranks, ["-m", "hpcfilter", "probe", run_dir, *PROBE], TIMEOUT, capture=True,
                     OMP_NUM_THREADS="1")
    if done.returncode:
        raise InputError(f"the probe ended with {done.returncode}: {done.stderr.strip()}")


def packed(data, folder):
    """The packed file of `data`: itself, or made in `folder`. Returns its path."""
    if data != "digits" and is_packed(data):
        return data
    about = pack(data, folder / "data.h5", replace=True)
    print(f"{folder / 'data.h5'}: {about['rows']['train']} training and {about['rows']['test']} test rows of "
          f"{about['name']}")
    return folder / "data.h5"
