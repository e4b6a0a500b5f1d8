"""One JSON line per result, with where it comes from."""

import json
import os
import platform
import statistics
import time
from pathlib import Path

from hpcfilter.base.errors import InputError
from hpcfilter.jobs import run_local
from hpcfilter.record.provenance import commit, versions
from hpcfilter.study.report import read_run


def result(case, parameters, **values):
    """A result with where it comes from (dict). parameters: what the case was run with."""
    return {"case": case, "parameters": parameters, **values,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores", "versions": versions(),
            "commit": commit(), "date": time.strftime("%Y-%m-%d")}


def write(path, case, parameters, **values):
    """Append a result to the JSON-lines file `path` and return it."""
    line = result(case, parameters, **values)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps(line) + "\n")
    return line


def on_ranks(case, ranks, words, timeout=1800, **more):
    """Run `python -m benchmarks CASE --inside WORDS` on local ranks. timeout: seconds.
    more: extra environment variables.

    Raises InputError when it fails.
    """
    done = run_local(ranks, ["-m", "benchmarks", case, "--inside", *words], timeout, **more)
    if done.returncode:
        raise InputError(f"the benchmark {case} on {ranks} ranks ended with {done.returncode}")


def interleaved(ways, repetitions, comm=None):
    """Time several functions in turns, so that a slow moment of the machine meets all of them; every
    second round goes backwards.

    ways: name -> function without arguments. Returns name -> list of seconds, of the slowest rank when
    there is a communicator.
    """
    seconds = {name: [] for name in ways}
    for number in range(repetitions):
        for name, way in list(ways.items())[:: -1 if number % 2 else 1]:
            if comm:
                comm.barrier()
            start = time.perf_counter()
            way()
            took = time.perf_counter() - start
            seconds[name].append(float(comm.max(took)) if comm else took)
    return seconds


def spread(values):
    """The median of some numbers, and the least and the most. Returns dict."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def train(ranks, config, run_dir, settings, timeout, capture=True, resume=False, **more):
    """Run `hpcfilter train` on local ranks. settings: key -> value of --set. timeout: seconds.
    more: extra environment variables.

    Returns (run, epochs, end) of its record. Raises InputError when it fails.
    """
    words = ["-m", "hpcfilter", "train", config, "--run-dir", run_dir, *(["--resume"] if resume else [])]
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]
    done = run_local(ranks, words, timeout, capture=capture, **more)
    if done.returncode:
        raise InputError(f"training on {ranks} ranks ended with {done.returncode}: "
                         f"{(done.stderr or '').strip()}")
    return read_run(run_dir)
