"""Does filtering help? Policies x fractions x batch sizes x seeds from a TOML plan, always beside all data, a
shortened schedule and random choice.

    python -m benchmarks evidence benchmarks/plans/fashion_mnist.toml --source fashion_mnist.h5

Runs stay in the folder; a second call goes on where the first was stopped, and refuses runs of other
settings. Interrupted once, it lets the runs that are under way finish. The compute of a run is its training
passes (twice those of fresh extrapolation) and a third of its forward-only ones, against the full schedule;
the seconds hold scoring, selection and checkpoints, on a machine that runs as many at a time as it has cores.
"""

import argparse
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from benchmarks.evidence_plan import Plan, arms
from benchmarks.evidence_table import evidence_tables
from benchmarks.results import result, train
from benchmarks.variants import packed
from hpcfilter.base.errors import InputError
from hpcfilter.base.files import replace_text
from hpcfilter.base.settings import Settings
from hpcfilter.data import read_probe
from hpcfilter.jobs import run_local
from hpcfilter.study.report import read_run
from hpcfilter.study.report.runs import read_rows
from hpcfilter.train.config import load

LOOK = 1 / 3  # of a training pass: forward without backward
SHAPE = "loss", "eigenvalue", "trace", "sharpness", "minima", "roughness"  # of the landscape


class Job(NamedTuple):
    """One run of an arm."""

    arm: NamedTuple
    seed: int
    folder: Path


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks evidence", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", help="TOML file, see benchmarks/plans")
    parser.add_argument("--source", required=True,
                        help="HDF5 file with train and test, and the attribute class_names")
    parser.add_argument("--folder", default="runs/evidence",
                        help="where the runs are kept (default runs/evidence)")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: as many as the cores hold)")
    parser.add_argument("--only", default="", help="only arms whose name, data or batch size holds this word")
    parser.add_argument("--table", action="store_true", help="start nothing, show what is there")
    parser.add_argument("--output", help="default: benchmarks/results/evidence_PLAN.jsonl")
    words = parser.parse_args(words)
    plan = Settings(words.plan, what="plan").validated(Plan)
    name = Path(words.plan).stem
    jobs = [Job(arm, seed, Path(words.folder) / name / arm.folder / f"seed-{seed}")
            for seed in range(plan.seeds) for arm in arms(plan)
            if words.only in f"{arm.data} {arm.batch} {arm.name}"]
    if not words.table:
        run_all(plan, words, jobs)
    results = [record(name, plan, arm, [job for job in jobs if job.arm == arm]) for arm in arms(plan)]
    results = [result for result in results if result]
    if not words.only:
        put(words.output or f"benchmarks/results/evidence_{name}.jsonl", results)
    print("\n\n".join(table.text() for table in evidence_tables(results)))
    if failed := [job.folder for job in jobs if (job.folder / "FAILED").exists()]:
        raise InputError(f"{len(failed)} runs have failed; why stands in {failed[0]}/FAILED; "
                         "remove it to try again")


def run_all(plan, words, jobs):
    """Train what is not trained yet, seed by seed, so that at any time all arms have about as many; then
    probe the first seeds."""
    files = {name: packed(words.source, name, Path(words.folder) / "data") for name in plan.data}
    for job in jobs:
        check_settings(job, resolved(plan, files, job))
    at_once = words.jobs or max(1, (os.cpu_count() or 1) // plan.ranks)
    with ThreadPoolExecutor(at_once) as workers:
        futures = [workers.submit(once, plan, files, job) for job in jobs]

        def stop(*_):
            print("stopping: what is under way is finished first; once more ends it at once", flush=True)
            for number, handler in before.items():
                signal.signal(number, handler)
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
    """Train one run, or the rest of it, and probe it if the plan says so. A run that fails
    is not tried again."""
    if (job.folder / "FAILED").exists():
        return
    job.folder.mkdir(parents=True, exist_ok=True)
    config = job.folder / "run.toml"
    config.write_text(resolved(plan, files, job).toml())
    if not (job.folder / "DONE").exists():
        try:
            train(plan.ranks, config, job.folder, {}, timeout=7200,
                  resume=(job.folder / "metrics.jsonl").exists(), OMP_NUM_THREADS="1")
        except InputError as error:
            (job.folder / "FAILED").write_text(f"{error}\n")
            print(f"{job.folder}: failed", flush=True)
            return
        print(f"{job.folder}: accuracy {100 * read_run(job.folder)[2]['accuracy']:.2f} %", flush=True)
    if job.seed < plan.probed and not (job.folder / "probed").exists():
        done = run_local(plan.ranks, ["-m", "hpcfilter", "probe", job.folder, *plan.probe], timeout=7200,
                         capture=True, OMP_NUM_THREADS="1")
        if done.returncode:
            print(f"{job.folder}: not probed: {done.stderr.strip()}", flush=True)
        else:
            (job.folder / "probed").touch()


def resolved(plan, files, job):
    """The run config of a job."""
    settings = {"seed": job.seed, "data.path": str(files[job.arm.data]), "data.verify": False,
                "train.epochs": job.arm.epochs, "train.global_batch": job.arm.batch, **plan.set,
                **job.arm.settings}
    return load(plan.config, [f"{key}={_word(value)}" for key, value in settings.items()])


def check_settings(job, config):
    """Raise InputError when the folder of a job holds a run of other settings."""
    there = job.folder / "config.toml"
    if there.exists() and load(there).toml() != config.toml():
        raise InputError(f"{there}: is of a run with other settings than the plan has now; "
                         "remove the folder, or give another --folder")


def _word(value):
    """A value as TOML, as --set takes it."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {json.dumps(part)}' for key, part in value.items())}}}"
    return json.dumps(value)


def put(path, results):
    """Write the lines, whole or not at all; nothing when there are none."""
    if results:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        replace_text(Path(path), "".join(json.dumps(result) + "\n" for result in results))


def record(name, plan, arm, jobs):
    """The JSON line of one arm, over its finished runs in the order of the seeds. Returns it, or None when
    none has finished or failed."""
    failed = sum((job.folder / "FAILED").exists() for job in jobs)
    jobs = [job for job in jobs if (job.folder / "DONE").exists()]
    if not jobs and not failed:
        return None
    runs = [read_run(job.folder) for job in jobs]
    seconds = [sum(row["seconds"]["total"] - row["seconds"]["evaluate"] for row in epochs)
               for _, epochs, _ in runs]
    values = {"accuracy": [end["accuracy"] for _, _, end in runs],
              "worst_class": [end["worst_class"] for _, _, end in runs],
              "passes": [end["passes"] / plan.epochs for _, _, end in runs],
              "looks": [end["looks"] / plan.epochs for _, _, end in runs], "seconds": seconds, "core_seconds":
              [sum(row.get("core_seconds", 0) for row in read_rows(job.folder)) for job in jobs]}
    double = 1 + (arm.settings.get("pass.extrapolate.direction") == "fresh")
    values["compute"] = [double * passes + LOOK * looks
                         for passes, looks in zip(values["passes"], values["looks"], strict=True)]
    parameters = {"plan": name, "data": arm.data, "batch": arm.batch, "arm": arm.name, "role": arm.role,
                  "epochs": arm.epochs, "settings": arm.settings}
    return result("evidence", parameters, ranks=plan.ranks, seeds=[job.seed for job in jobs], failed=failed,
                  unit="shares, seconds",
                  **values, landscape=landscape([job.folder / "probe.h5"
                                                 for job in jobs if (job.folder / "probed").exists()]),
                  trained_at=sorted({str(run["commit"]) for run, _, _ in runs}))


def landscape(paths):
    """What probes say: set -> number -> values of the seeds. paths: of probe.h5 files, of one
    arm. Empty without any."""
    found = {}
    for probe in map(read_probe, paths):
        for name, part in probe.sets.items():
            lines = part.get("slice1d", {})
            numbers = {**part, "eigenvalue": part["eigenvalues"][0] if "eigenvalues" in part else None,
                       **({"minima": lines["minima"].mean(), "roughness": lines["roughness"].mean()}
                          if "minima" in lines else {})}
            for key in SHAPE:
                if numbers.get(key) is not None:
                    found.setdefault(name, {}).setdefault(key, []).append(float(numbers[key]))
    return found
