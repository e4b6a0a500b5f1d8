"""The parts of `python -m benchmarks gpu`: name -> function of a benchmarks.gpu.Site."""

import json
from statistics import median

from benchmarks.loop import PHASES
from hpcfilter.base.errors import InputError

SMALL = {"model": '{name="cnn", width=8}', "train.epochs": 3, "train.deterministic": "true",
         "data.augment": "shift_flip", "data.augment_on": "host"}
KAKURENBO = '{policy="kakurenbo", fraction=0.3, tau=0.2}'
RANDOM = '{policy="random", fraction=0.3}'
SHARES = 0.3, 0.5


def laws(site):
    """Runs that must be equal bit for bit, pair by pair. Raises InputError when some are not."""
    def ends(name, settings, **more):
        _, epochs, end = site.train(name, {**SMALL, **settings}, **more)
        return {"weights": end["weights"], "selections": [row["selection"] for row in epochs],
                "batches": [row["batches"] for row in epochs]}

    held, whole = {}, ends("whole", {"filter": KAKURENBO})

    def law(name, one, other, *parts):
        held[name] = all(one[part] == other[part] for part in parts)
        print(f"{'holds ' if held[name] else 'BROKEN'} {name}", flush=True)

    there = {"filter": KAKURENBO, "data.resident": "true", "data.augment_on": "device"}
    law("rows and pixels on the device or the host", whole, ends("resident", there), "weights", "selections")
    # killed in the middle of the last epoch, and begun again from the end of the one before
    steps = site.train("steps", {**SMALL, "train.epochs": 1})[1][0]["steps"]
    fault = f"rank=0,point=after_step,n={2 * steps + 1},kind=sigkill"
    site.train("killed", {**SMALL, "filter": KAKURENBO}, fails=True, HPCFILTER_FAULT=fault)
    law("killed and resumed", whole, ends("killed", {"filter": KAKURENBO}, resume=True),
        "weights", "selections")
    law("fraction 0 is no filter", ends("none", {}),
        ends("zero", {"filter": '{policy="kakurenbo", fraction=0.0}'}), "weights", "batches")
    law("one rank and two", ends("one", {"filter": RANDOM}), ends("two", {"filter": RANDOM}, ranks=2),
        "selections", "batches")
    site.write("laws", held=held)
    if broken := [name for name, holds in held.items() if not holds]:
        raise InputError(f"laws broken: {'; '.join(broken)}")


def seconds(epochs):
    """Median seconds per epoch of what the minimal loop has, too, without the first epoch. Of a compiled run
    another one may have compiled once more."""
    return median(sum(row["seconds"][phase] for phase in PHASES) for row in epochs[1:] or epochs)


def loop(site):
    """Ours without a filter against the minimal DDP loop, on one rank: rows on the device, rows read ahead,
    augmented too."""
    against_minimal(site, {"resident": {"data.resident": "true"}, "read ahead": {},
                           "read ahead, augmented": {"data.augment": "shift_flip"}})


def compiled(site):
    """The same with torch.compile, which the minimal loop has not."""
    against_minimal(site, {f"resident, compile = {mode}": {"data.resident": "true",
                                                           "train.compile": mode}
                           for mode in ("true", "reduce-overhead")})


def against_minimal(site, ways):
    """Runs without a filter and the minimal loop, which runs once. ways: name -> settings."""
    if site.least is None:
        words = ["-m", "benchmarks.minimal_ddp", site.config("minimal", site.fast), site.words.epochs]
        done = site.start(1, words, launch="torchrun")
        if done.returncode:
            raise InputError(f"the minimal loop ended with {done.returncode}: {done.stderr.strip()[-600:]}")
        least = json.loads(done.stdout.splitlines()[-1])
        site.least = median(least[1:] or least)
        print(f"minimal: {site.least:.3f} s per epoch", flush=True)
    for name, settings in ways.items():
        run, epochs, _ = site.train(f"loop {name}", {**site.fast, **settings})
        ours, least = seconds(epochs), site.least
        print(f"{name}: {ours:.3f} s per epoch, minimal / hpcfilter {least / ours:.3f}", flush=True)
        site.write("loop", way=name, ranks=1, unit="seconds per epoch", minimal=least, hpcfilter=ours,
                   ratio=least / ours, device_found=run["device"])


def scoring(site):
    """Samples per second of scoring against training."""
    words = site.words
    done = site.start(1, ["-m", "benchmarks", "scoring", "--inside", "--data", words.data, "--models",
                          words.model, "--batch", words.batch, "--samples", words.samples, "--repetitions", 5,
                          "--device", words.device, "--output", site.output])
    print(done.stdout.strip(), flush=True)
    if done.returncode:
        raise InputError(f"scoring ended with {done.returncode}: {done.stderr.strip()[-600:]}")


def hidden(site):
    """The time of an epoch in which a share of the samples is hidden, of that of a whole one."""
    whole = None
    for share in (0.0, *SHARES):
        table = (f'{{policy="kakurenbo", fraction={share}, factors=[1.0], tau=0.0, refresh="none", '
                 'lr="none"}' if share else '{policy="none"}')
        # the first two epochs know little, and the first is no measure
        settings = {**site.fast, "filter": table, "train.epochs": site.words.epochs + 2}
        run, epochs, _ = site.train(f"hidden {share}", settings)
        took, epochs = seconds(epochs[1:]), epochs[2:]
        whole = whole or took
        found = sum(row["hidden"] for row in epochs) / len(epochs) / run["samples"]
        print(f"hidden {found:.3f}: {took:.3f} s per epoch, {took / whole:.3f} of a whole one", flush=True)
        site.write("hidden", fraction=share, hidden=found, unit="seconds per epoch", seconds=took,
                   ratio=took / whole)


def accuracy(site):
    """A training that learns, without a filter and with two."""
    epochs = site.words.accuracy_epochs
    recipe = {**site.fast, "data.augment": "shift_flip", "train.epochs": epochs, "optim.lr": 0.1,
              "schedule.name": "cosine", "schedule.warmup_epochs": min(1, epochs / 2)}
    for name, table in {"none": '{policy="none"}', "InfoBatch": '{policy="infobatch"}',
                        "KAKURENBO": '{policy="kakurenbo", fraction=0.3}'}.items():
        _, rows, end = site.train(f"accuracy {name}", {**recipe, "filter": table})
        took, last = sum(row["seconds"][phase] for row in rows for phase in PHASES), rows[-1]
        print(f"{name}: accuracy {last['accuracy']:.4f}, {end['passes']:.2f} passes in {epochs} epochs, "
              f"{took:.1f} s", flush=True)
        site.write("accuracy", policy=name, accuracy=[row["accuracy"] for row in rows], passes=end["passes"],
                   looks=last["looks"], unit="seconds", seconds=took)


PARTS = {"laws": laws, "loop": loop, "scoring": scoring, "hidden": hidden, "accuracy": accuracy,
         "compiled": compiled}
