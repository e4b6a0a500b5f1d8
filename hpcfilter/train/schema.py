"""The tables of a training: [train], [model], [loss], [optim], [schedule], [exchange], [pass],
[[phase]] and [checkpoint]."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from hpcfilter.base.paths import expanded
from hpcfilter.base.settings import NamedTable, Place, Table
from hpcfilter.base.shares import Count
from hpcfilter.select.schema import FilterTable

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


class Model(NamedTable):
    """[model]: the network. The other keys are the model's own."""

    name: str = "cnn"  # cnn, mlp, resnet18 or autoencoder
    factory: str | None = None  # package.module:callable, instead of a name
    start: Place | None = None  # run folder whose weights to begin with; a head of another width is made anew


class Train(Table):
    """[train]: how long, in which steps, on what."""

    epochs: Count = 10  # with [[phase]]: of all phases together
    batch: Count | None = None  # samples per rank and step; if neither is given, batch is 128
    global_batch: Count | None = None  # samples per step over all ranks; you cannot give both
    ramp_batch: Count | None = None  # global batch of the first epoch, which grows to the whole one ...
    ramp_epochs: NotNegative = 0.0  # ... over so many epochs
    precision: Literal["float32", "bfloat16"] = "float32"  # of the forward pass (autocast)
    channels_last: bool = False  # images lie pixel by pixel in memory; faster for convolutions, on CPUs too
    # equal bits in every run on as many ranks, three and more too; costs a little
    deterministic: bool = False
    # auto: a GPU, where torch sees one; cuda: of NVIDIA, or of AMD by ROCm; xpu: of Intel
    device: Literal["auto", "cpu", "cuda", "xpu"] = "auto"
    # true, or a mode of torch.compile; the first steps take longer, and sums have other last bits
    compile: bool | Literal["reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = False

    @pydantic.model_validator(mode="after")
    def _one_batch(self):
        if self.batch is None and self.global_batch is None:
            self.batch = 128
        if self.batch is not None and self.global_batch is not None:
            raise ValueError("batch (samples per rank) and global_batch (samples over all ranks) exclude "
                             "each other")
        return self

    @pydantic.model_validator(mode="after")
    def _equal_kernels(self):
        if self.deterministic and str(self.compile).startswith("max-autotune"):
            raise ValueError(f'compile = "{self.compile}" chooses kernels by their time, so that no two runs '
                             'need have equal bits; expected deterministic = false, or compile = true')
        return self

    @pydantic.model_validator(mode="after")
    def _whole_ramp(self):
        if (self.ramp_batch is None) != (self.ramp_epochs == 0):
            raise ValueError("ramp_batch and ramp_epochs are given together or not at all")
        return self


class Loss(Table):
    """[loss]: one value per sample."""

    # auto, cross_entropy, mse, reconstruction (of the sample itself) or package.module:factory
    name: str = "auto"
    label_smoothing: BelowOne = 0.0  # of cross_entropy


class Optim(Table):
    """[optim]: how gradients move the weights."""

    # sgd (Nesterov), lars, lamb, adamw or another of torch.optim by its name, or package.module:factory
    name: str = "sgd"
    lr: Positive = 0.05  # for `lr_batch` samples per step
    lr_batch: Count = 256  # samples per step that lr is for
    lr_scaling: Literal["linear", "sqrt", "none"] = "linear"  # how the rate grows with the global batch
    momentum: BelowOne = 0.9  # of those that have one
    weight_decay: NotNegative = 5e-4  # of those that have one
    trust: Positive = 0.001  # of lars: its trust coefficient
    options: dict[str, Any] | None = None  # further settings of one of torch.optim, such as betas
    clip_norm: Positive | None = None  # most that the norm of the summed gradient may be


class Schedule(Table):
    """[schedule]: the learning rate over the epochs."""

    name: Literal["cosine", "polynomial", "step", "constant"] = "cosine"  # how the rate falls
    warmup_epochs: NotNegative = 1.0  # in which the rate rises to the scaled one
    warmup_lr: NotNegative | None = None  # that the warm-up begins with; default: lr before scaling
    power: Positive = 2.0  # of polynomial
    # of step: where the rate falls, as shares of the epochs
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = Field([1 / 3, 2 / 3, 8 / 9])
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1  # of step: the factor of each fall


class Exchange(NamedTable):
    """[exchange]: how the ranks come to agree on network weights. The other keys are the kind's own."""

    kind: str = "allreduce"  # allreduce, or adasum
    # what carries gradients; auto: Horovod where it is built for the MPI of the launch, else torch
    engine: Literal["auto", "horovod", "torch"] = "auto"
    # of the engine torch; auto: nccl or xccl on GPUs, gloo on CPUs and where ranks share a GPU
    backend: Literal["auto", "nccl", "xccl", "gloo", "mpi"] = "auto"


OWN_WEIGHTS = "kept", "fresh"  # of a phase; others are of a run folder


class Phase(Table):
    """[[phase]]: a stretch of epochs."""

    epochs: Count  # how many
    # kept, fresh (network, optimiser and schedule begin anew) or a run folder (with its weights)
    weights: str = "kept"
    # all, or a glob of the names of the parameters that are trained, such as "head.*"; the statistics of
    # BatchNorm go on in all layers
    train: str = "all"
    filter: FilterTable | None = None  # of this phase; default: the table [filter]

    @pydantic.field_validator("weights")
    @classmethod
    def _expanded(cls, weights):
        return weights if weights in OWN_WEIGHTS else str(Path(expanded(weights)).absolute())


class Checkpoint(Table):
    """[checkpoint]: when a run is saved."""

    every: Count = 1  # epochs
    # inside an epoch too, after so many seconds; auto: Young/Daly, from what a save costs
    seconds: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None
    keep: Count = 2  # generations, and with them always the last that ended an epoch
    mtbf_hours: Annotated[float, Field(gt=0)] | None = None  # mean time between failures of the whole job

    @pydantic.model_validator(mode="after")
    def _auto_needs_mtbf(self):
        if self.seconds == "auto" and self.mtbf_hours is None:
            raise ValueError('seconds = "auto" needs mtbf_hours, the mean time between failures of the '
                             'whole job')
        return self


# [pass.NAME]: what is wrapped around the plain pass, each with keys of its own
Passes = dict[str, dict[str, Any]]
