"""How soon a job ends when one rank fails or hangs, and how soon it has saved when it is told to leave.

    exception   seconds from the exception of one rank, in each phase, to the end of the launcher
    stalled     seconds from the moment a rank is stopped (SIGSTOP) to the end of the
                launcher, and the timeout
    signal      seconds from the signal to one rank to the checkpoint that stands, and to the
                end of the launcher
"""

import argparse
import re
import signal
import tempfile
import time
from pathlib import Path

from benchmarks.demo import packed
from benchmarks.results import write
from hpcfilter.base.errors import InputError
from hpcfilter.jobs import ranks_of, started
from hpcfilter.train.checkpoint import generations

RUN = Path(__file__).parent.parent / "jobs" / "runs" / "fashion_mnist.toml"
PHASES = {"select": "after_select", "step": "after_step", "score": "before_score",
          "evaluate": "before_evaluate", "save": "after_samples"}
TIMEOUT = 300  # seconds for one launch


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks leaving", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits",
                        help="digits, a packed file, or anything that `hpcfilter pack` reads")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--stall", type=float, default=5, help="the timeout of a stalled rank, seconds")
    parser.add_argument("--output", default="benchmarks/results/leaving.jsonl")
    words = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(temporary), packed(words.data, Path(temporary)), words)
        for phase, point in PHASES.items():
            bench.measure("exception", phase, lambda rank, point=point: bench.fault(rank, point, "exception"))
        bench.measure("stalled", "step", lambda rank: bench.fault(rank, "after_step", "sigstop"),
                      timeout=words.stall)
        for name in ("USR1", "USR2", "TERM"):
            bench.measure("signal", name, lambda rank, name=name: bench.signalled(rank, name))


class Bench:
    """Launches of one run, each in a folder of its own."""

    def __init__(self, folder, data, words):
        self.folder, self.data, self.words, self.launches = folder, data, words, 0

    def measure(self, what, where, once, **parameters):
        """Repeat, with every rank in turn as the one concerned; print and write the seconds."""
        results = [once(number % self.words.ranks) for number in range(self.words.repetitions)]
        names = ("ended", "saved") if what == "signal" else ("ended",)
        seconds = {name: sorted(result[name] for result in results) for name in names}
        write(self.words.output, "leaving", {"what": what, "where": where, "data": Path(self.words.data).name,
                                             **parameters}, ranks=self.words.ranks, **seconds, unit="s")
        medians = "  ".join(f"{name} {parts[len(parts) // 2]:.2f} s (most {parts[-1]:.2f})"
                            for name, parts in seconds.items())
        print(f"{what:10} {where:9} {medians}", flush=True)

    def _launch(self, **more):
        self.launches += 1
        run_dir = self.folder / str(self.launches)
        settings = {"data.path": self.data, "train.epochs": 1000,
                    "stop.stall_seconds": self.words.stall if more else TIMEOUT}
        words = ["-m", "hpcfilter", "train", RUN, "--run-dir", run_dir]
        for key, value in settings.items():
            words += ["--set", f"{key}={value}"]
        return run_dir, started(self.words.ranks, words, capture=True, **more)

    def fault(self, rank, point, kind):
        """Seconds from a fault in the second epoch, or at the 20th step, to the end."""
        rank = 0 if point == "after_samples" else rank  # rank 0 writes
        n = 20 if point == "after_step" else 2
        _, launch = self._launch(HPCFILTER_FAULT=f"rank={rank},point={point},n={n},kind={kind}")
        with launch as launcher:
            _, err = launcher.communicate(timeout=TIMEOUT)
            end = time.time()
        found = re.search(r"hpcfilter: fault .*, at ([\d.]+)$", err, re.MULTILINE)
        if not found or launcher.returncode == 0:
            raise InputError(f"the fault at {point} did not end the job (code {launcher.returncode}): {err}")
        return {"ended": end - float(found[1])}

    def signalled(self, rank, name):
        """Seconds from a signal in the first epoch, after some steps, to the checkpoint and to the end."""
        run_dir, launch = self._launch()
        with launch as launcher:
            while not (run_dir / "metrics.jsonl").exists() and launcher.poll() is None:
                time.sleep(0.02)
            time.sleep(2 + 0.37 * rank)
            start = time.time()
            ranks_of(launcher)[rank].send_signal(getattr(signal, f"SIG{name}"))
            _, err = launcher.communicate(timeout=TIMEOUT)
            end = time.time()
        if launcher.returncode or not (run_dir / "REQUEUE").exists():
            raise InputError(f"SIG{name} ended the job with {launcher.returncode} and no marker: {err}")
        return {"ended": end - start,
                "saved": generations(run_dir / "checkpoints")[-1].stat().st_ctime - start}
