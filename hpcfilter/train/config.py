"""The run config: TOML and `--set a.b=c` become validated values. Order: defaults < file < `--set`.

This file puts the tables together; what may stand in them is said beside the code that reads them. A key that
nobody knows is refused with the list of those that are known. Named tables ([model], [filter], [score],
[exchange], [pass.NAME]) name a function or class each; its keyword-only parameters are the schema of the
table's other keys (`base.registry.bind`), so that a policy of the user's own is configured like one of ours.
"""

import hashlib
import json
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pydantic
import tomli_w
from pydantic import Field

from hpcfilter.base.alive.schema import Stop
from hpcfilter.base.errors import InputError
from hpcfilter.base.settings import Settings, Table
from hpcfilter.data.schema import Data
from hpcfilter.jobs.schema import Job
from hpcfilter.record.schema import Recorded
from hpcfilter.select.schema import FilterTable, ScoreTable
from hpcfilter.train.moved import check_moved
from hpcfilter.train.schema import (
    OWN_WEIGHTS,
    Checkpoint,
    Exchange,
    Loss,
    Model,
    Optim,
    Passes,
    Phase,
    Schedule,
    Train,
)


class Config(Table):
    """The whole run config, as the run folder's config.toml holds it."""

    seed: Annotated[int, Field(ge=0)] = 0  # of every draw: weights, batches, selections
    data: Data
    model: Model = Model()
    train: Train = Train()
    loss: Loss = Loss()
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    exchange: Exchange = Exchange()
    passes: Passes = Field({}, alias="pass")
    filter: FilterTable = FilterTable()
    score: ScoreTable = ScoreTable()
    phases: list[Phase] = Field([], alias="phase")
    record: Recorded = Recorded()
    checkpoint: Checkpoint = Checkpoint()
    stop: Stop = Stop()
    job: Job = Job()

    _source: Settings | None = None
    _beside: Path | None = None  # what data.path would mean from the folder of the run config

    @pydantic.model_validator(mode="after")
    def _fits_together(self):
        if self.phases:
            total, train = sum(phase.epochs for phase in self.phases), self.train
            if "epochs" in train.model_fields_set and train.epochs != total:
                raise ValueError(f"train.epochs: got {train.epochs}, but the phases have {total} epochs in "
                                 "all; leave train.epochs out")
            train.epochs = total
        if self.record.noise_scale:
            if self.exchange.kind != "allreduce":
                raise ValueError('record.noise_scale: needs the sum of the gradients; '
                                 f'got exchange.kind = "{self.exchange.kind}"')
            for name, why in (("micro", "the gradient of a rank's samples at once"),
                              ("extrapolate", "the gradients at the weights")):
                if name in self.passes:
                    raise ValueError(f"record.noise_scale: needs {why}; got [pass.{name}]")
        return self

    @contextmanager
    def places(self):
        """Put the file and the line before every InputError that names a key of this config."""
        try:
            yield
        except InputError as error:
            key = re.match(r"[a-z]+(\.\w+)+(?=:)", str(error))
            known = key and key[0].partition(".")[0] in tables(type(self))
            raise type(error)(f"{self._source.place(key[0].split('.'))}{error}" if known
                              else str(error)) from error

    def idle(self):
        """The keys that come to nothing beside another one: "table.key" -> why. What is said to be off
        may keep its settings."""
        data, model, schedule = self.data, self.model, self.schedule
        augmented = "augment" in data.model_fields_set
        rules = (("model.name", model.factory, f'the model is of factory = "{model.factory}"'),
                 *((f"data.{key}", not augmented or data.augment not in ("none", name, f"{name}_flip"),
                    f'it is of augment = "{name}" or "{name}_flip", got "{data.augment}"')
                   for key, name in (("shift", "shift"), ("crop", "resized_crop"))),
                 *((f"schedule.{key}", schedule.name != name,
                    f'it is of schedule.name = "{name}", got "{schedule.name}"')
                   for key, name in (("power", "polynomial"), ("milestones", "step"), ("gamma", "step"))))
        return {key: why for key, applies, why in rules if applies}

    def refuse(self, idle):
        """Raise InputError for the first of these keys that was set: on the command line, or to
        another value than its default. The run folder's config.toml has every key. idle: "table.key"
        -> why it comes to nothing."""
        for key, why in idle.items():
            name, _, field = key.partition(".")
            table = getattr(self, name)
            if ((value := getattr(table, field)) != type(table).model_fields[field]
                    .get_default(call_default_factory=True) or self._source.commanded(key)):
                raise InputError(f"{self._source.place([name, field])}{key}: "
                                 f"got {value!r}, which would be ignored: {why}")

    def all_phases(self):
        """The phases of the run, a list of Phase; without [[phase]] there is one, of all epochs."""
        return self.phases or [Phase(epochs=self.train.epochs)]

    def starts(self):
        """The run folders whose weights the run takes: key of the config -> path."""
        first = {"model.start": str(self.model.start)} if self.model.start else {}
        later = {f"phase.{number}.weights": phase.weights for number, phase in enumerate(self.phases)}
        return first | {key: weights for key, weights in later.items() if weights not in OWN_WEIGHTS}

    @property
    def micro_batch(self):
        """Samples of a rank that go forward at once, at most; None for all."""
        return self.passes.get("micro", {}).get("samples")

    @property
    def policy(self):
        """The policies of the run by name, joined by commas where the phases have several."""
        return ", ".join(dict.fromkeys((phase.filter or self.filter).policy for phase in self.all_phases()))

    def data_file(self):
        """data.path, absolute. Raises InputError when nothing is there, but something of that name
        beside the run config."""
        path, beside = self.data.path, self._beside
        if beside and beside.exists() and not path.exists():
            raise InputError(f"data.path: no file {path}; relative paths are taken from the current folder, "
                             "and there is one beside the run config: "
                             f'start in {beside.parent}, or write data.path = "{beside}"')
        return path

    def fixed(self):
        """The settings that a resumed run must share with its beginning: flat, "table.key" -> value. The
        samples per rank may be others, and the last phase may be of other length."""
        free = {"checkpoint": True, "stop": True, "job": True, "record": True,
                "data": {"path", "verify", "resident", "augment_on"}, "model": {"start"},
                "train": {"epochs", "device", "compile", "batch", "global_batch"}}
        dumped = self.model_dump(mode="json", by_alias=True, exclude=free)
        dumped["phase"] = {number: phase for number, phase in enumerate(dumped["phase"])}
        if self.phases:
            del dumped["phase"][len(self.phases) - 1]["epochs"]
        return _flat(dumped)

    def toml(self):
        """The resolved config as TOML text, without the job that ran it."""
        # phases have epochs of their own
        free = {"job": True, **({"train": {"epochs"}} if self.phases else {})}
        return tomli_w.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=free))

    def digest(self):
        """Hex digest of the resolved config, without the job."""
        whole = self.model_dump(mode="json", by_alias=True, exclude={"job"})
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def tables(schema):
    """The names of the tables of a config, as they are written."""
    return [field.alias or name for name, field in schema.model_fields.items()]


def _flat(table, before=""):
    """Nested dicts with the keys joined by dots."""
    flat = {}
    for key, value in table.items():
        flat |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return flat


def load(path, settings=()):
    """Read a run config. path: TOML file. settings: strings "a.b=value", later ones win. Returns Config.

    Raises InputError naming the file, the line, what stands there and what may stand there. A relative data
    path is taken from the current folder.
    """
    source = Settings(path, settings)
    check_moved(source)
    config = source.validated(Config)
    config._beside = (Path(path).parent / config.data.path).absolute()
    config.data.path = config.data.path.absolute()
    config.model.start = config.model.start and config.model.start.absolute()
    config._source = source
    config.refuse(config.idle())
    return config
