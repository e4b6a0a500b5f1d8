"""Digests of selection, batches and weights of short runs of every kind: what a change that should change no
result must leave equal.

    python -m benchmarks digests --output before.jsonl                              before the change
    python -m benchmarks digests --output after.jsonl --against before.jsonl       after it
    python -m benchmarks digests --output torch.jsonl --against after.jsonl --set exchange.engine=torch

Weights depend on the machine and its libraries in their last bits, and with them the losses and what
follows: compare on one machine only.
"""

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.demo import packed
from benchmarks.results import read_run, write
from hpcfilter.base.errors import BrokenInvariant, InputError
from hpcfilter.jobs import run_local

TIMEOUT = 300  # seconds of one run
BASE = """seed = 5
[data]
path = "{data}"
order = "{order}"
[model]
name = "cnn"
width = 4
[train]
global_batch = 120
deterministic = true
[optim]
lr = 0.1
"""
KAKURENBO = "filter.policy=kakurenbo filter.fraction=0.3 filter.tau=0.2"
RUNS = {  # name -> (ranks, order, settings, phases, fault after which it is resumed)
        "none": (1, "global", "filter.policy=none", "", ""),
        "none, augmented": (3, "global", "filter.policy=none data.augment=shift", "", ""),
        "none, shard": (2, "shard", "filter.policy=none", "", ""),
        "kakurenbo": (2, "global", KAKURENBO, "", ""),
        "kakurenbo, shard": (3, "shard", KAKURENBO, "", ""),
        "kakurenbo, guards": (2, "global",
                              f"{KAKURENBO} filter.noise=0.05 filter.noise_warmup=1 filter.noise_patience=1 "
                              "filter.class_floor=0.6 filter.refresh=near filter.lr=effective", "", ""),
        "infobatch": (2, "global", "filter.policy=infobatch", "", ""),
        "infobatch, shard": (2, "shard", "filter.policy=infobatch", "", ""),
        "random, resident": (1, "global",
                             "filter.policy=random data.resident=true train.channels_last=true", "", ""),
        "seta": (3, "global", "filter.policy=seta", "", ""),
        "bls": (2, "global", "filter.policy=bls", "", ""),
        "selective_backprop, shard": (2, "shard", "filter.policy=selective_backprop", "", ""),
        "two_sided": (2, "global", "filter.policy=two_sided", "", ""),
        "es": (2, "global", "filter.policy=es", "", ""),
        "forget, fresh": (2, "global", "", [(2, "kept", "none"), (2, "fresh", "forget")], ""),
        "ccs, shard": (2, "shard", "", [(2, "kept", "none"), (2, "fresh", "ccs")], ""),
        "static, kept": (1, "global", "", [(2, "kept", "none"), (2, "kept", "static")], ""),
        "micro": (2, "global", f"{KAKURENBO} pass.micro.samples=16", "", ""),
        "extrapolate, past": (2, "global", "pass.extrapolate.direction=past pass.micro.samples=25", "", ""),
        "extrapolate, fresh": (1, "global", "pass.extrapolate.direction=fresh", "", ""),
        "extrapolate, noise": (2, "global",
                               "pass.extrapolate.direction=noise optim.name=lars optim.lr=1.0", "", ""),
        "adasum": (2, "global", "exchange.kind=adasum", "", ""),
        "fp16": (2, "global", "exchange.compression=fp16 filter.policy=infobatch", "", ""),
        "ramp": (2, "global", "train.ramp_batch=40 train.ramp_epochs=2 record.noise_scale=true "
                 "optim.clip_norm=1.0 schedule.name=polynomial", "", ""),
        "resumed": (2, "global", f"{KAKURENBO} checkpoint.seconds=0.001", "",
                    "rank=1,point=after_step,n=31,kind=sigkill"),
        "resumed, shard": (3, "shard", f"{KAKURENBO} checkpoint.seconds=0.001", "",
                           "rank=2,point=before_step,n=20,kind=exception"),
        "resumed, phases": (2, "global",
                            "checkpoint.seconds=0.001", [(2, "kept", "none"), (2, "fresh", "forget")],
                            "rank=0,point=after_step,n=30,kind=sigkill"),}


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks digests",
                                     description=__doc__.partition("\n")[0])
    parser.add_argument("--output", default="benchmarks/results/digests.jsonl")
    parser.add_argument("--against", help="results of before: refuse to end well when one differs")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=VALUE",
                        help="of all runs")
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    words = parser.parse_args(words)
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        data = packed("digits", Path(temporary))
        for number, name in enumerate(words.only):
            ranks, order, settings, *more = RUNS[name]
            settings = " ".join([settings, *words.settings])
            found[name] = digests(data, Path(temporary, str(number)), ranks, order, settings, *more)
            write(words.output, "digests", {"run": name, "ranks": ranks}, **found[name], unit="digest")
            print(f"{name:26} {RUNS[name][0]} ranks  weights {found[name]['weights']}", flush=True)
    if words.against:
        compare(words.against, found)


def digests(data, folder, ranks, order, settings, phases, fault):
    """Train one run and read its digests. Returns a dict of selection and batches, a list
    each, and weights."""
    folder.mkdir()
    text = BASE.format(data=data, order=order)
    for epochs, weights, policy in phases or [(4, "kept", "")]:
        own = f'filter = {{policy = "{policy}"}}\n' if policy else ""
        text += f'[[phase]]\nepochs = {epochs}\nweights = "{weights}"\n{own}'
    (folder / "run.toml").write_text(text)
    command = ["-m", "hpcfilter", "train", folder / "run.toml", "--run-dir", folder / "run"]
    command += [word for setting in settings.split() for word in ("--set", setting)]
    if fault:
        run_local(ranks, command, TIMEOUT, capture=True, HPCFILTER_FAULT=fault)
        command.append("--resume")
    done = run_local(ranks, command, TIMEOUT, capture=True)
    if done.returncode:
        raise InputError(f"{folder.name}: the run ended with {done.returncode}: {done.stderr}")
    _, epochs, end = read_run(folder / "run")
    return {**{key: [row[key] for row in epochs] for key in ("selection", "batches")},
            "weights": end["weights"]}


def compare(path, found):
    """Raise BrokenInvariant unless the digests are those that a file has."""
    before = {line["parameters"]["run"]: line
              for line in map(json.loads, Path(path).read_text().splitlines())}
    differ = {name: those for name, mine in found.items()
              if name in before and (those := [key for key in mine if before[name][key] != mine[key]])}
    print(f"{len(found)} runs, {len(set(found) & set(before))} of them in {path}, {len(differ)} differ")
    if differ:
        raise BrokenInvariant("the digests differ: "
                              + "; ".join(f"{name}: {', '.join(keys)}" for name, keys in differ.items()))
