"""The run config: TOML and `--set a.b=c` become validated values. Order: defaults < file < `--set`.

A key that nobody knows is refused with the list of those that are known. The tables [model], [score] and [filter] name a function
each; its keyword-only parameters are the schema of the table's other keys (`base.registry.bind`), so that a policy of the user's own is
configured like one of ours.
"""

import hashlib
import json
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import tomli_w
from pydantic import BaseModel, ConfigDict, Field

from hpcfilter.base.alive import notice
from hpcfilter.base.errors import InputError
from hpcfilter.base.settings import Place, Source, Table
from hpcfilter.base.shares import Count
from hpcfilter.jobs.schema import Job


class _NamedTable(BaseModel):
    """A table whose other keys belong to the function it names."""

    model_config = ConfigDict(extra="allow")


class Data(Table):
    path: Place
    order: Literal["global", "shard"] = "global"
    augment: str = "none"  # none, shift, shift_flip or package.module:function
    shift: Annotated[int, Field(ge=0)] | None = None  # pixels that shift moves by; default an eighth of the height
    resident: bool = False  # keep all training rows on the device, for data sets that fit there
    verify: bool = True  # check the checksums of the rows this rank owns before training

    @pydantic.model_validator(mode="after")
    def _no_augmentation_on_the_device(self):
        if self.resident and self.augment != "none":
            raise ValueError(f"resident = true: rows on the device are not augmented; expected augment = \"none\", got {self.augment!r}")
        return self


class Model(_NamedTable):
    name: str = "cnn"
    factory: str | None = None  # package.module:callable, instead of a name


class Train(Table):
    epochs: Count = 10
    batch: Count | None = None  # samples per rank and step
    global_batch: Count | None = None  # samples per step over all ranks; one of the two
    micro_batch: Count | None = None  # samples per forward pass of a rank, where a step has more than fit: their gradients are added up
    lr: Annotated[float, Field(gt=0)] = 0.05  # for `lr_batch` samples per step
    lr_batch: Count = 256
    lr_scaling: Literal["linear", "sqrt", "none"] = "linear"
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    warmup_lr: Annotated[float, Field(ge=0)] | None = None  # that it begins with; default: lr before scaling
    schedule: Literal["cosine", "polynomial", "step", "constant"] = "cosine"
    power: Annotated[float, Field(gt=0)] = 2.0  # of schedule = polynomial
    # of schedule = step: where the rate falls, as shares of the epochs
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = Field([1 / 3, 2 / 3, 8 / 9])
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    ramp_batch: Count | None = None  # global batch of the first epoch, which grows to the whole one ...
    ramp_epochs: Annotated[float, Field(ge=0)] = 0.0  # ... over so many epochs
    optimizer: str = "sgd"  # sgd (Nesterov), lars, lamb, adamw or another of torch.optim by its name, or package.module:factory
    optimizer_options: dict[str, Any] | None = None  # further settings of one of torch.optim, such as betas
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of those that have one
    trust: Annotated[float, Field(gt=0)] = 0.001  # of lars: its trust coefficient
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    loss: str = "auto"  # auto, cross_entropy, mse, reconstruction (of the sample itself) or package.module:factory
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_norm: Annotated[float, Field(gt=0)] | None = None  # most that the norm of the summed gradient may be
    reduction: Literal["sum", "adasum"] = "sum"  # of the ranks' gradients
    compression: Literal["none", "fp16"] = "none"  # of the gradients on their way
    extrapolate: Literal["none", "past", "fresh", "noise"] = "none"  # ExtrapSGD
    extrapolation: Annotated[float, Field(ge=0)] = 1.0  # how far, in learning rates
    noise_scale: bool = False  # measure the gradient noise scale in every epoch
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    deterministic: bool = False  # equal bits in every run on as many ranks, three and more too; costs a little
    device: Literal["auto", "cpu", "cuda"] = "auto"
    breakdown: bool = False  # wait for a GPU at each part of a step, so that its times are exact; slows it down

    @pydantic.model_validator(mode="after")
    def _one_batch(self):
        if self.batch is None and self.global_batch is None:
            self.batch = 128
        if self.batch is not None and self.global_batch is not None:
            raise ValueError("batch (samples per rank) and global_batch (samples over all ranks) exclude each other")
        return self

    @pydantic.model_validator(mode="after")
    def _fits_together(self):
        if (self.ramp_batch is None) != (self.ramp_epochs == 0):
            raise ValueError("ramp_batch and ramp_epochs are given together or not at all")
        if self.reduction == "adasum" and self.noise_scale:
            raise ValueError('noise_scale = true needs the sum of the gradients; got reduction = "adasum"')
        if self.micro_batch and self.noise_scale:
            raise ValueError("noise_scale = true needs the gradient of a rank's samples at once; got micro_batch")
        if self.extrapolate != "none" and self.noise_scale:
            raise ValueError(f'noise_scale = true needs the gradients at the weights; got extrapolate = "{self.extrapolate}"')
        return self


class Filter(_NamedTable):
    policy: str = "none"


class Score(_NamedTable):
    name: str = "auto"  # the one that the policy ranks by


class Checkpoint(Table):
    every: Count = 1  # epochs
    seconds: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None  # inside an epoch too; auto: Young/Daly, from what a save costs
    keep: Count = 2  # generations, and with them always the last that ended an epoch
    mtbf_hours: Annotated[float, Field(gt=0)] | None = None  # mean time between failures of the whole job

    @pydantic.model_validator(mode="after")
    def _auto_needs_mtbf(self):
        if self.seconds == "auto" and self.mtbf_hours is None:
            raise ValueError('seconds = "auto" needs mtbf_hours, the mean time between failures of the whole job')
        return self


class Stop(Table):
    signals: list[str] = Field(list(notice.SIGNALS))  # notice to leave: save and exit 0 with the marker REQUEUE
    stall_seconds: Annotated[float, Field(ge=0)] = 300.0  # without any progress, after which the job is ended; 0: never

    @pydantic.field_validator("signals")
    @classmethod
    def _can_be_caught(cls, names):
        for name in names:
            if not notice.can_be_caught(name):
                raise ValueError(f"{name} is no signal that can be caught; expected names such as {', '.join(notice.SIGNALS)}"
                                 f"{notice.likely(name)}")
        return names


class Config(Table):
    """The whole run config, as the run folder's config.toml holds it."""

    seed: Annotated[int, Field(ge=0)] = 0
    data: Data
    model: Model = Model()
    train: Train = Train()
    filter: Filter = Filter()
    score: Score = Score()
    checkpoint: Checkpoint = Checkpoint()
    stop: Stop = Stop()
    job: Job = Job()

    _source: Source | None = None
    _beside: Path | None = None  # what data.path would mean from the folder of the run config

    @contextmanager
    def places(self):
        """Put the file and the line before every InputError that names a key of this config."""
        try:
            yield
        except InputError as error:
            key = re.match(r"[a-z]+(\.\w+)+(?=:)", str(error))
            known = key and key[0].partition(".")[0] in type(self).model_fields
            raise type(error)(f"{self._source.place(key[0].split('.'))}{error}" if known else str(error)) from error

    def idle(self):
        """The keys that come to nothing beside another one: "table.key" -> why. What is said to be off may keep its settings."""
        data, train = self.data, self.train
        augmented, extrapolated = "augment" in data.model_fields_set, "extrapolate" in train.model_fields_set
        rules = (("model.name", self.model.factory, f'the model is of factory = "{self.model.factory}"'),
                 ("data.shift", ":" in data.augment or not augmented, f'it is of augment = "shift" or "shift_flip", got "{data.augment}"'),
                 ("train.extrapolation", not extrapolated, 'it is of extrapolate = "past", "fresh" or "noise", got none'),
                 ("train.power", train.schedule != "polynomial", f'it is of schedule = "polynomial", got "{train.schedule}"'),
                 ("train.milestones", train.schedule != "step", f'it is of schedule = "step", got "{train.schedule}"'),
                 ("train.gamma", train.schedule != "step", f'it is of schedule = "step", got "{train.schedule}"'))
        return {key: why for key, applies, why in rules if applies}

    def refuse(self, idle):
        """Raise InputError for the first of these keys that was set: on the command line, or to another value than its default.
        The run folder's config.toml has every key. idle: "table.key" -> why it comes to nothing."""
        for key, why in idle.items():
            name, _, field = key.partition(".")
            table = getattr(self, name)
            if (value := getattr(table, field)) != type(table).model_fields[field].get_default(call_default_factory=True) \
                    or self._source.commanded(key):
                raise InputError(f"{self._source.place([name, field])}{key}: got {value!r}, which would be ignored: {why}")

    def data_file(self):
        """data.path, absolute. Raises InputError when nothing is there, but something of that name beside the run config."""
        path, beside = self.data.path, self._beside
        if beside and beside.exists() and not path.exists():
            raise InputError(f"data.path: no file {path}; relative paths are taken from the current folder, and there is one beside the run config: "
                             f'start in {beside.parent}, or write data.path = "{beside}"')
        return path

    def fixed(self):
        """The settings that a resumed run must share with its beginning: flat, "table.key" -> value. The samples per rank may be others."""
        free = {"checkpoint": True, "stop": True, "job": True, "data": {"path", "verify", "resident"},
                "train": {"epochs", "device", "batch", "global_batch", "breakdown", "noise_scale"}}
        tables = self.model_dump(mode="json", exclude=free)
        seed = tables.pop("seed")
        return {"seed": seed, **{f"{table}.{key}": value for table, values in tables.items() for key, value in values.items()}}

    def toml(self):
        """The resolved config as TOML text, without the job that ran it."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True, exclude={"job"}))

    def digest(self):
        """Hex digest of the resolved config, without the job."""
        free = {"job": True, "train": {"optimizer_options"} if self.train.optimizer_options is None else set()}  # as before there was such a key
        return hashlib.sha256(json.dumps(self.model_dump(mode="json", exclude=free), sort_keys=True).encode()).hexdigest()[:16]


def load(path, settings=()):
    """Read a run config. path: TOML file. settings: strings "a.b=value", later ones win. Returns Config.

    Raises InputError naming the file, the line, what stands there and what may stand there. A relative data path
    is taken from the current folder.
    """
    source = Source(path, settings)
    config = source.validated(Config)
    config._beside = (Path(path).parent / config.data.path).absolute()
    config.data.path = config.data.path.absolute()
    config._source = source
    config.refuse(config.idle())
    return config
