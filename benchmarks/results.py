"""One JSON line per result, with where it comes from."""

import json
import os
import platform
import time
from pathlib import Path

from hpcfilter.errors import InputError
from hpcfilter.launch import run_local
from hpcfilter.record import commit, versions
from hpcfilter.report import read_run


def write(path, case, parameters, **values):
    """Append a result to the JSON-lines file `path` and return it (dict). parameters: what the case was run with."""
    result = {"case": case, "parameters": parameters, **values, "machine": f"{platform.machine()}, {os.cpu_count()} cores",
              "versions": versions(), "commit": commit(), "date": time.strftime("%Y-%m-%d")}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps(result) + "\n")
    return result


def train(ranks, config, run_dir, settings, timeout, capture=True, resume=False, **more):
    """Run `hpcfilter train` on local ranks. settings: key -> value of --set. timeout: seconds. more: extra environment variables.

    Returns (run, epochs, end) of its record. Raises InputError when it fails.
    """
    words = ["-m", "hpcfilter", "train", config, "--run-dir", run_dir, *(["--resume"] if resume else [])]
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]
    done = run_local(ranks, words, timeout, capture=capture, **more)
    if done.returncode:
        raise InputError(f"training on {ranks} ranks ended with {done.returncode}: {(done.stderr or '').strip()}")
    return read_run(run_dir)
