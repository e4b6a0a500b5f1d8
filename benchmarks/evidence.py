"""Does filtering help? Policies x fractions x batch sizes x seeds from a TOML plan, always beside all data, a shortened schedule and random choice.

    python -m benchmarks evidence benchmarks/plans/fashion_mnist.toml --source fashion_mnist.h5

Runs stay in the folder; a second call goes on where the first was stopped. Interrupted once, it lets the runs that are under way finish. The compute
of a run is its training passes and a third of its forward-only ones, against the full schedule; the seconds hold scoring, selection and checkpoints.
"""

import argparse
import json
import os
import signal
import statistics
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from benchmarks.evidence_plan import Plan, arms
from benchmarks.evidence_table import evidence_tables
from benchmarks.results import train, write
from benchmarks.variants import packed
from hpcfilter.config import load
from hpcfilter.launch import run_local
from hpcfilter.report import read_run
from hpcfilter.settings import Source

LOOK = 1 / 3  # of a training pass: forward without backward


class Job(NamedTuple):
    """One run of an arm."""

    arm: NamedTuple
    seed: int
    folder: Path


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks evidence", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", help="TOML file, see benchmarks/plans")
    parser.add_argument("--source", required=True, help="HDF5 file with train and test")
    parser.add_argument("--folder", default="runs/evidence", help="where the runs are kept (default runs/evidence)")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: as many as the cores hold)")
    parser.add_argument("--only", default="", help="only arms whose name, data or batch size holds this word")
    parser.add_argument("--table", action="store_true", help="start nothing, show what is there")
    parser.add_argument("--output", help="default: benchmarks/results/evidence_PLAN.jsonl")
    words = parser.parse_args(words)
    plan = Source(words.plan, what="plan").validated(Plan)
    name = Path(words.plan).stem
    jobs = [Job(arm, seed, Path(words.folder) / name / arm.folder / f"seed-{seed}") for seed in range(plan.seeds) for arm in arms(plan)
            if words.only in f"{arm.data} {arm.batch} {arm.name}"]
    if not words.table:
        run_all(plan, words, jobs)
    output = Path(words.output or f"benchmarks/results/evidence_{name}.jsonl")
    output.unlink(missing_ok=True)
    results = [record(output, name, plan, arm, [job for job in jobs if job.arm == arm and (job.folder / "DONE").exists()]) for arm in arms(plan)
               if any(job.arm == arm for job in jobs)]
    print("\n\n".join(table.text() for table in evidence_tables([result for result in results if result])))


def run_all(plan, words, jobs):
    """Train what is not trained yet, seed by seed, so that at any time all arms have about as many; then probe the first seeds."""
    files = {name: packed(words.source, name, Path(words.folder) / "data") for name in plan.data}
    at_once = words.jobs or max(1, (os.cpu_count() or 1) // plan.ranks)
    with ThreadPoolExecutor(at_once) as workers:
        futures = [workers.submit(once, plan, files, job) for job in jobs]

        def stop(*_):
            print("stopping: what is under way is finished first", flush=True)
            for future in futures:
                future.cancel()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            wait(futures)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        for future in futures:
            if not future.cancelled():
                future.result()


def once(plan, files, job):
    """Train one run, or the rest of it, and probe it if the plan says so."""
    settings = {"seed": job.seed, "data.path": str(files[job.arm.data]), "data.verify": False, "train.epochs": job.arm.epochs,
                "train.global_batch": job.arm.batch, **plan.settings, **job.arm.settings}
    job.folder.mkdir(parents=True, exist_ok=True)
    config = job.folder / "run.toml"
    config.write_text(load(plan.config, [f"{key}={_word(value)}" for key, value in settings.items()]).toml())
    if not (job.folder / "DONE").exists():
        train(plan.ranks, config, job.folder, {}, timeout=7200, resume=(job.folder / "metrics.jsonl").exists(), OMP_NUM_THREADS="1")
        print(f"{job.folder}: accuracy {100 * read_run(job.folder)[2]['accuracy']:.2f} %", flush=True)
    if job.seed < plan.probed and not (job.folder / "probed").exists():
        done = run_local(plan.ranks, ["-m", "hpcfilter", "probe", job.folder, *plan.probe], timeout=7200, capture=True, OMP_NUM_THREADS="1")
        if done.returncode:
            print(f"{job.folder}: not probed: {done.stderr.strip()}", flush=True)
        else:
            (job.folder / "probed").touch()


def _word(value):
    """A value as TOML, as --set takes it."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {json.dumps(part)}' for key, part in value.items())}}}"
    return json.dumps(value)


def record(output, name, plan, arm, jobs):
    """The JSON line of one arm, over its finished runs in the order of the seeds. Returns it, or None without any."""
    if not jobs:
        return None
    runs = [read_run(job.folder) for job in jobs]
    seconds = [sum(row["seconds"]["total"] - row["seconds"]["evaluate"] for row in epochs) for _, epochs, _ in runs]
    values = {"accuracy": [end["accuracy"] for _, _, end in runs], "worst_class": [end["worst_class"] for _, _, end in runs],
              "passes": [end["passes"] / plan.epochs for _, _, end in runs], "looks": [end["looks"] / plan.epochs for _, _, end in runs],
              "seconds": seconds, "core_seconds": [end["core_seconds"] for _, _, end in runs]}
    values["compute"] = [passes + LOOK * looks for passes, looks in zip(values["passes"], values["looks"], strict=True)]
    parameters = {"plan": name, "data": arm.data, "batch": arm.batch, "arm": arm.name, "role": arm.role, "epochs": arm.epochs,
                  "settings": arm.settings}
    return write(output, "evidence", parameters, ranks=plan.ranks, seeds=[job.seed for job in jobs], unit="shares, seconds", **values,
                 landscape=landscape([job for job in jobs if (job.folder / "probed").exists()]),
                 mean=statistics.fmean(values["accuracy"]), trained_at=sorted({str(run["commit"]) for run, _, _ in runs}))


def landscape(jobs):
    """What the probes say: set -> number -> values of the seeds. Empty without probes."""
    if not jobs:
        return {}
    from hpcfilter.data.probed import read_probe

    found = {}
    for job in jobs:
        probe = read_probe(job.folder / "probe.h5")
        for name, part in probe.sets.items():
            for key in ("loss", "trace", "sharpness"):
                if key in part.numbers:
                    found.setdefault(name, {}).setdefault(key, []).append(float(part.numbers[key]))
            if "eigenvalues" in part.numbers:
                found[name].setdefault("largest eigenvalue", []).append(float(part.numbers["eigenvalues"][0]))
    return found
