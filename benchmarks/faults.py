"""The campaign: a run is killed again and again, at random points and at random moments, and must end with
the bits of a run that nobody touched.

A trajectory is one run folder: start, kill, check that every generation in it can be read, resume,
kill, ... until it is done. Each kill is a SIGKILL of one random rank, at the n-th pass of a point of
the code or after a random time.

    kills       ranks killed there (what the launcher then kills as well is not counted)
    generations checkpoints that stood in the folder after the kills, each read and checked byte for byte
    unreadable  those that were not whole
    equal       kills in trajectories that ended with the weights and rows of the untouched run, bit for bit
"""

import argparse
import random
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np

from benchmarks.demo import packed
from benchmarks.results import write
from hpcfilter.base.alive import faults
from hpcfilter.base.errors import BrokenInvariant, InputError
from hpcfilter.data import read_table
from hpcfilter.jobs import ranks_of, started
from hpcfilter.study.report import read_run
from hpcfilter.train.checkpoint import generations, read_stamp

CONFIG = """seed = 5
[data]
path = "{data}"
augment = "shift"
[model]
name = "cnn"
width = 4
[train]
epochs = 3
global_batch = 48
deterministic = true
[schedule]
warmup_epochs = 0
[filter]
policy = "kakurenbo"
fraction = 0.3
tau = 0.2
[checkpoint]
seconds = 0.1
[stop]
stall_seconds = 60
"""
TIMEOUT = 120  # seconds for one launch
MOST_KILLS = 8  # in one trajectory; then it may end
# How often each point is passed at most within a few dozen steps, so that most faults do happen.
MOST_PASSES = {"before_step": 70, "after_step": 70, "histogram": 6}
POINTS = [point
          for point, target in faults.POINTS.items() if target is None or target == "file"] + ["histogram"]
MOMENT = "any moment"  # a kill by the clock instead of a point


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks faults", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 3], help="numbers of ranks, in turns")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--output", default="benchmarks/results/faults.jsonl")
    words = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        campaign = Campaign(Path(temporary), words.ranks, random.Random(words.seed))
        while campaign.kills() < words.kills:
            campaign.trajectory(words.kills)
    for point, counts in campaign.counts.items():
        write(words.output, "faults", {"point": point, "seed": words.seed, "ranks": words.ranks}, **counts,
              unit="kills")
    print(campaign.table())
    total = campaign.total()
    if total["unreadable"] or total["equal"] != total["kills"]:
        raise BrokenInvariant(f"campaign: {total}")


class Campaign:
    """Kills and what became of them, by point."""

    def __init__(self, folder, ranks, rng):
        self.folder, self.ranks, self.rng = folder, ranks, rng
        self.counts = {}  # point -> kills, generations, unreadable, equal
        self.trajectories = 0
        self.config = folder / "run.toml"
        self.config.write_text(CONFIG.format(data=packed("digits", folder)))
        self.reference = {}  # ranks -> what the untouched run has come to
        for number in ranks:
            done, _ = self._launch(number, folder / f"reference{number}")
            if done.returncode:
                raise InputError(f"the untouched run on {number} ranks ended with {done.returncode}: "
                                 f"{done.stderr}")
            self.reference[number] = self._result(folder / f"reference{number}")

    def kills(self):
        return sum(counts["kills"] for counts in self.counts.values())

    def total(self):
        return {name: sum(counts[name] for counts in self.counts.values())
                for name in ("kills", "generations", "unreadable", "equal")}

    def trajectory(self, wanted):
        """Kill one run up to MOST_KILLS times, `wanted` kills in all, and compare its end
        with the untouched run."""
        number, killed = self.rng.choice(self.ranks), []
        self.trajectories += 1
        run_dir = self.folder / f"run{self.trajectories}"
        while not (run_dir / "DONE").exists():
            untouched = len(killed) == MOST_KILLS or self.kills() == wanted
            point, done = self._once(number, run_dir, untouched)
            if done.returncode == 0:
                continue
            if point is None:
                raise BrokenInvariant(f"campaign: {run_dir.name} ended with {done.returncode} though nobody "
                                      f"killed it: {done.stderr}")
            counts = self.counts.setdefault(point,
                                            {"kills": 0, "generations": 0, "unreadable": 0, "equal": 0})
            whole = [readable(path) for path in generations(run_dir / "checkpoints")]
            counts["kills"] += 1
            counts["generations"] += len(whole)
            counts["unreadable"] += whole.count(False)
            killed.append(point)
        equal = self._result(run_dir) == self.reference[number]
        for point in killed:
            self.counts[point]["equal"] += equal
        print(f"{run_dir.name:8} {number} ranks  {len(killed)} kills  "
              f"{'equal bits' if equal else 'OTHER BITS'}  ({self.kills()} of {wanted})", flush=True)

    def _once(self, number, run_dir, untouched):
        """One launch. Returns (the point of the kill, None when there was none; CompletedProcess)."""
        if untouched:
            return None, self._launch(number, run_dir)[0]
        rank, point = self.rng.randrange(number), self.rng.choice([*POINTS, MOMENT, MOMENT, MOMENT])
        if point == MOMENT:
            done, killed = self._launch(number, run_dir, kill=(rank, self.rng.uniform(1.5, 6.0)))
            return point if killed else None, done
        n = self.rng.randint(1, MOST_PASSES.get(point, 3))
        done, _ = self._launch(number, run_dir,
                               HPCFILTER_FAULT=f"rank={rank},point={point},n={n},kind=sigkill")
        return point if "hpcfilter: fault sigkill" in done.stderr else None, done

    def _launch(self, number, run_dir, kill=None, **more):
        """Start or resume a run. kill: (rank, seconds until it is killed). Returns (CompletedProcess, whether
        the kill was in time)."""
        words = ["-m", "hpcfilter", "train", self.config, "--run-dir", run_dir, "--resume"]
        killed = threading.Event()
        with started(number, words, capture=True, **more) as launcher:
            timer = threading.Timer(kill[1], self._kill, (launcher, kill[0], killed)) if kill else None
            if timer:
                timer.start()
            out, err = launcher.communicate(timeout=TIMEOUT)
            if timer:
                timer.cancel()
                timer.join()
        return subprocess.CompletedProcess(launcher.args, launcher.returncode, out, err), killed.is_set()

    @staticmethod
    def _kill(launcher, rank, killed):
        ranks = ranks_of(launcher)
        if len(ranks) > rank and launcher.poll() is None:
            ranks[rank].kill()
            killed.set()

    @staticmethod
    def _result(run_dir):
        """What must be equal, bit for bit: the final weights, and every epoch's row but for its times."""
        _, epochs, end = read_run(run_dir)
        return end["weights"], [{key: value for key, value in row.items() if key != "seconds"}
                                for row in epochs]

    def table(self):
        """The counts as Markdown."""
        names = ("kills", "generations", "unreadable", "equal")
        lines = ["| killed at | kills | generations read | unreadable | equal bits at the end |",
                 "|---|--:|--:|--:|--:|"]
        for point, counts in [*sorted(self.counts.items()), ("**all**", self.total())]:
            lines.append(f"| {point.replace('_', ' ')} | {' | '.join(str(counts[name]) for name in names)} |")
        return "\n".join(lines)


def readable(path):
    """Whether a generation is whole and what it holds can be read."""
    import torch

    try:
        read_stamp(path)
        torch.load(path / "model.pt", weights_only=True)
        return all(np.concatenate([array.ravel() for array in read_table(table)[0].values()]).size
                   for table in path.glob("*.h5"))
    except Exception:
        return False
