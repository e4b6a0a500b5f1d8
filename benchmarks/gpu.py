"""What one GPU changes, within some minutes and without Horovod: laws, loop, scoring, epochs with hidden
samples, a training.

    python -m benchmarks gpu --data data.h5 --folder benchmarks/results/gpu

The parts come one after the other, each a few whole runs; what there is no time left for is left out, and a
part that fails does not end the others. Each part leaves one JSON line or more in gpu.jsonl.
`benchmarks/gpu.sh` prepares a machine and calls this. With --device cpu it tries itself.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.gpu_parts import PARTS
from benchmarks.loop import RUN
from benchmarks.results import write
from hpcfilter.base.errors import InputError
from hpcfilter.jobs import run_local
from hpcfilter.study.report import read_run
from hpcfilter.train.config import load

LEAST = 15  # seconds that must be left for another run to begin


class NoTime(Exception):
    """The minutes are over."""


class Site:
    """Where the parts run: data, model, device, folder, and how long still. words: the command line."""

    def __init__(self, words, scratch):
        self.words, self.scratch, self._end = words, scratch, time.monotonic() + 60 * words.minutes
        self.output = Path(words.folder) / "gpu.jsonl"
        self.least = None  # seconds per epoch of the minimal loop
        self.settings = {"data.path": Path(words.data).resolve(), "data.verify": "false",
                         "model": f'{{name="{words.model}"}}', "train.device": words.device,
                         "train.epochs": words.epochs, "train.global_batch": words.batch,
                         "filter": '{policy="none"}', "schedule.name": "constant",
                         "schedule.warmup_epochs": 0, "data.augment": "none"}
        self.settings.update(setting.split("=", 1) for setting in words.settings)
        self.fast = {"train.precision": "bfloat16", "train.channels_last": "true"}

    def left(self):
        """Seconds that are left. Raises NoTime when they are not enough for a run."""
        left = self._end - time.monotonic()
        if left < LEAST:
            raise NoTime
        return left

    def config(self, name, settings):
        """Path of a run config with these settings on top."""
        path = self.scratch / f"{name}.toml"
        path.write_text(load(RUN, [f"{key}={value}" for key, value in {**self.settings, **settings}.items()])
                        .toml())
        return path

    def start(self, ranks, words, launch=None, **more):
        """Run `python WORDS` on ranks of this machine. launch: torchrun, mpirun, or None for a plain process
        where there is one rank. Returns CompletedProcess."""
        launch = launch or (self.words.launch if ranks > 1 else "none")
        if launch == "torchrun":
            words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", *words]
            more = {"HPCFILTER_ALONE": "0", **more}
        try:
            return run_local(ranks if launch == "mpirun" else 1, words, self.left(), capture=True, **more)
        except subprocess.TimeoutExpired:
            raise NoTime from None

    def train(self, name, settings, ranks=1, resume=False, fails=False, **more):
        """`hpcfilter train`. settings: key -> value, on top of those of all runs. fails: whether it is to be
        killed. Returns (run, epochs, end) of its record. Raises InputError when it fails otherwise."""
        engine = ["--set", "exchange.engine=torch"] if ranks > 1 and self.words.launch == "torchrun" else []
        run_dir = self.scratch / name
        words = ["-m", "hpcfilter", "train", self.config(name, settings), "--run-dir", run_dir, *engine]
        done = self.start(ranks, [*words, *(["--resume"] if resume else [])], **more)
        if bool(done.returncode) != fails:
            raise InputError(f"{name}: ended with {done.returncode}: {done.stderr.strip()[-600:]}")
        return None if fails else read_run(run_dir)

    def write(self, part, **values):
        """Append a line to the results. values: JSON-able."""
        about = {"part": part, "data": Path(self.words.data).name, "model": self.words.model,
                 "batch": self.words.batch, "epochs": self.words.epochs, "device": self.words.device}
        write(self.output, "gpu", about, **values)


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="packed file of images")
    parser.add_argument("--folder", default="benchmarks/results/gpu", help="takes gpu.jsonl")
    parser.add_argument("--minutes", type=float, default=7, help="for all parts together (default 7)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--batch", type=int, default=512, help="samples per step (default 512)")
    parser.add_argument("--epochs", type=int, default=4, help="of a timed run, the first not counted")
    parser.add_argument("--accuracy-epochs", type=int, default=8, help="of the training that is to learn")
    parser.add_argument("--samples", type=int, default=8192, help="of scoring, per measurement")
    parser.add_argument("--device", default="cuda", help="cuda, xpu, or cpu to try the script")
    parser.add_argument("--launch", choices=("torchrun", "mpirun"), default="torchrun")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=VALUE")
    words = parser.parse_args(words)
    failed = []
    with tempfile.TemporaryDirectory() as scratch:
        site = Site(words, Path(scratch))
        for name in words.parts:
            started = time.monotonic()
            print(f"== {name}", flush=True)
            try:
                PARTS[name](site)
            except NoTime:
                print(f"{name}: no time is left; the rest of it is left out", flush=True)
                site.write(name, left_out="no time was left")
            except InputError as error:  # said, kept, and the next part has its turn
                failed.append(name)
                print(f"{name}: {error}", flush=True)
                site.write(name, failed=str(error))
            print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    if failed:
        raise InputError(f"failed: {', '.join(failed)}; the lines in {site.output} say why")
