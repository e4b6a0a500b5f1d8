"""make demo: pack a data set, train it on two real ranks without a filter and with KAKURENBO, probe the second, show both side by side."""

import argparse
import shutil
from pathlib import Path

from benchmarks.results import train
from hpcfilter.base.errors import InputError
from hpcfilter.base.files import replace_text
from hpcfilter.data import is_packed, open_packed
from hpcfilter.jobs import run_local
from hpcfilter.pack.pack import pack
from hpcfilter.study.report import compare, page, picture

RUNS = Path(__file__).parent.parent / "jobs" / "runs"
TIMEOUT = 3600  # seconds for one training, or one probe
PROBE = "--what", "map,curvature,slices", "--samples", 2000, "--eigenvalues", 2, "--probes", 8, "--batch", 512, "--points", 21, "--grid", 9


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks demo", description=__doc__)
    parser.add_argument("--data", default="digits", help="digits, a packed file, or anything that `hpcfilter pack` reads")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--epochs", type=int, help="default: 30 for digits, 5 for other data")
    parser.add_argument("--folder", type=Path, default=Path("runs/demo"), help="everything is left there")
    words = parser.parse_args(words)
    words.folder.mkdir(parents=True, exist_ok=True)
    data = packed(words.data, words.folder)
    config, settings, filtering = _settings(words.data, open_packed(data))
    settings["data.path"] = data
    if words.epochs:
        settings["train.epochs"] = words.epochs
    runs = []
    for policy in ("none", filtering):
        runs.append(words.folder / policy)
        shutil.rmtree(runs[-1], ignore_errors=True)
        print(f"\n{words.ranks} ranks, policy {policy}")
        train(words.ranks, config, runs[-1], {**settings, "filter": f'{{policy = "{policy}"}}'}, TIMEOUT, capture=False)
    print("\nthe landscape of the loss")
    done = run_local(words.ranks, ["-m", "hpcfilter", "probe", runs[-1], *PROBE], TIMEOUT, OMP_NUM_THREADS="1")
    if done.returncode:
        raise InputError(f"the probe ended with {done.returncode}")
    print(f"\n{compare(runs).text()}")
    picture(runs, words.folder / "demo.png")
    replace_text(words.folder / "report.html", page(runs))
    print(f"\n{words.folder / 'demo.png'}: accuracy and hidden share against the epoch")
    print(f"{words.folder / 'report.html'}: the runs, the samples and the landscape; open it in a browser")


def _settings(data, dataset):
    """(run config, what to change in it, the policy to show). KAKURENBO needs classes and the small CNN images of 8 x 8; else random, MLP."""
    if data == "digits":
        return RUNS / "digits.toml", {}, "kakurenbo"
    settings = {"data.augment": "none", "train.epochs": 5}
    if not dataset.layout or min(dataset.train.images.shape[1:3]) < 8:
        settings["model"] = '{name = "mlp"}'
    return RUNS / "fashion_mnist.toml", settings, "kakurenbo" if dataset.classes else "random"


def packed(data, folder):
    """The packed file of `data`: itself, or made in `folder`. Returns its path."""
    if data != "digits" and is_packed(data):
        return data
    about = pack(data, folder / "data.h5", replace=True)
    print(f"{folder / 'data.h5'}: {about['rows']['train']} training and {about['rows']['test']} test rows of {about['name']}")
    return folder / "data.h5"
