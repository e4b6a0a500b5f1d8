"""A model on its device: rows become tensors, tensors become one loss and one observation per sample. No
communication, no files."""

import hashlib
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import torch

from hpcfilter.base.alive.pulse import beat
from hpcfilter.base.errors import InputError, OwnCode
from hpcfilter.base.own import a, code, place
from hpcfilter.base.randomness import seed_of
from hpcfilter.base.trees import each, samples, shape
from hpcfilter.data import read_batches
from hpcfilter.data.drawn import DRAWN
from hpcfilter.select.seen import Seen
from hpcfilter.train import models
from hpcfilter.train.checks import classes_of, score_of, shapes_of
from hpcfilter.train.network.compiled import Compiled
from hpcfilter.train.network.copies import copies_of
from hpcfilter.train.network.device import (
    device_of,
    keep_memory,
    seed_generators,
    sent,
    set_determinism,
    set_threads,
    wait,
)
from hpcfilter.train.network.losses import make_loss
from hpcfilter.train.network.trial import check_losses


class Network:
    """The model of a run config for a data set, on this rank's device.

    dataset: data.Dataset. config: config.Config. local_rank, local_size: this rank's place on its node.
    Raises InputError for a device, model, loss or score that cannot be had with this data set.
    """

    def __init__(self, config, dataset, local_rank=0, local_size=1):
        train = config.train
        # the target is the sample itself, and labels play no part
        self.reconstructs = config.loss.name == "reconstruction"
        self.classes, self.layout = classes_of(config, dataset), dataset.layout
        set_determinism(train.deterministic)
        self.device = device_of(train.device, local_rank)
        self.copies, self._ranks_here, self._compiled = copies_of(self.device), local_size, None
        self.channels_last, self.precision = train.channels_last, getattr(torch, train.precision)
        set_threads(self.device, local_size)
        keep_memory(self.device)
        sample, outputs = shapes_of(config, dataset)
        self._factory = models.find_model(config.model.name, config.model.factory)
        self._build = lambda: models.build(config.model.name, config.model.factory, config.model.model_extra,
                                           sample, outputs)
        torch.manual_seed(seed_of(config.seed, 0, "weights"))
        # built on the CPU, so that the same seed gives the same weights on every device
        self.model = self._build().to(self.device)
        self.mean, self.std = (torch.from_numpy(part).to(self.device).reshape(-1, *[1] * (len(sample) - 1))
                               for part in (dataset.mean, dataset.std))
        self.loss = make_loss(config.loss, self.classes)
        self._theirs = {"model": config.model.factory is not None, "loss.name": ":" in config.loss.name,
                        "score.name": ":" in config.score.name}
        self.score = score_of(config, dataset)
        self.features = Features(self.model) if self.score.needs_features else None

    def begin_anew(self, seed, epoch):
        """Give the model fresh weights in place, a function of (seed, epoch)."""
        torch.manual_seed(seed_of(seed, epoch, "weights"))
        self.model.load_state_dict(self._build().state_dict())

    def compile(self, mode):
        """Have torch.compile run the model from here on. mode: of train.compile; False for not."""
        self._compiled = Compiled(self.model, mode, self.device, self._ranks_here) if mode else None

    def seed(self, number):
        """Set the generators that the model draws from, such as dropout."""
        seed_generators(self.device, number)

    def tensors(self, images, labels):
        """Move rows to the device, as the bytes that they are, and make there of them what the model sees.
        images: numpy or tensor (b, ...), or a tuple of data.drawn; labels: (b, ...). Returns (x float32,
        normalised; y int64 or float32).

        Trees of inputs go to the model as they are, those of targets to the loss.
        """
        kind = torch.int64 if self.classes else torch.float32
        y = each(lambda part: sent(part, self.device).to(kind), labels)
        x = each(lambda part: sent(part, self.device), images)
        if isinstance(x, DRAWN):
            x = x.made()
        if not isinstance(x, torch.Tensor):
            return x, y
        if self.layout == "HW":
            x = x[:, None]
        elif self.layout == "HWC":
            x = x.movedim(-1, 1)
        x = (x.to(torch.float32) - self.mean).div_(self.std)
        return self.laid_out(x), y

    def laid_out(self, x):
        """The samples in the memory layout of the config. x: (b, ...). With train.channels_last images
        (b, c, h, w) lie pixel by pixel."""
        if not self.channels_last or x.ndim != 4:
            return x.contiguous()
        x = x.contiguous(memory_format=torch.channels_last)
        channels, height, width = x.shape[1:]
        # Both layouts of one channel are the same memory, and torch takes it for the other one
        # unless the strides say which
        return (x.as_strided(x.shape, (channels * height * width, 1, channels * width, channels))
                if channels == 1 else x)

    def forward(self, x, y):
        """Returns (output float32 (b, ...), losses float32 (b,), one per sample). Raises OwnCode where a
        model or a loss of the user's own fails."""
        count = samples(x)
        alone = count == 1 and self.model.training
        what = ("one sample in a step (BatchNorm needs two: give a larger batch)" if alone
                else f"samples of shape {shape(x)}")
        with code(f"model: fails on {what}", self._theirs["model"] or alone, self._factory):
            with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
                output = (self._compiled or self.model)(x)
        if found := self._unfit(output, count):
            expected = (f"one tensor of shape ({count}, {self.classes})" if self.classes
                        else "one tensor of floating-point numbers")
            raise OwnCode(f"model: returned {found}, expected {expected} on "
                          f"{self.device}{place(type(self.model).forward, self._factory)}")
        output, target = output.float(), x if self.reconstructs else y
        with code(f"loss.name: fails on outputs of shape {tuple(output.shape)} with targets of shape "
                  f"{each(lambda part: tuple(part.shape), target)}", self._theirs["loss.name"], self.loss):
            return output, self.loss(output, target)

    def _unfit(self, output, count):
        """What is wrong with an output of the model for so many samples, in words, or ""."""
        if not isinstance(output, torch.Tensor):
            return a(output)
        if not output.is_floating_point():
            return f"numbers of type {str(output.dtype).removeprefix('torch.')}"
        if output.device != self.device:
            return f"a tensor on {output.device}"
        few = self.classes and (output.ndim < 2 or len(output) != count or output.shape[1] < self.classes)
        return f"a tensor of shape {tuple(output.shape)}" if few else ""

    def try_out(self, split, index):
        """Run model, loss and score on a few rows, so that what does not fit is known before the
        run. Raises InputError."""
        names = {name for name, _ in self.model.named_parameters()}
        with self.evaluating():
            x, y = self.tensors(*split.rows(index))
            with code(f"model: fails on samples of shape {shape(x)} with targets of shape {shape(y)}", True,
                      self._factory):
                output, losses = self.forward(x, y)
                check_losses(self.loss, losses, samples(x))
                if not self.score.needs_passes:
                    self.measure(output, y, losses)
        if new := sorted({name for name, _ in self.model.named_parameters()} - names):
            raise OwnCode(f"model: its first forward pass makes the parameters {', '.join(new[:4])}, "
                          "which no optimiser would know; "
                          f"make all layers in __init__{place(type(self.model).forward)}")

    def measure(self, output, y, losses):
        """What is worth knowing of each sample of the batch that has just gone forward. Returns name ->
        tensor (b,), as `Score.measure`."""
        with code(f"score.name: {self.score.name} fails", self._theirs["score.name"], self.score):
            return self.score.measure(output, y, losses, self.features and self.features.last,
                                      self.classes > 0)

    @contextmanager
    def evaluating(self):
        """Eval mode without gradients; the modes of all parts are as before afterwards."""
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        try:
            with torch.no_grad():  # a tensor that the model keeps must serve in training, too
                yield
        finally:
            for module, training in modes.items():
                module.training = training

    def infer(self, rows, index, batch):
        """Forward pass over rows in eval mode. index: int64 (m,). Returns (observations: name -> numpy (m,),
        losses float32 (m,))."""
        seen = Seen(self.names)
        for number, ((output, losses), y) in enumerate(self.forward_all(rows, index, batch)):
            seen.add(np.zeros(len(losses), np.int64), number,
                     {**self.measure(output, y, losses), "loss": losses})
        columns = seen.rows()
        return {name: columns[name] for name in self.names if name != "loss"}, columns["loss"]

    def forward_all(self, split, index, batch):
        """Forward pass over rows in eval mode, without gradients. Yields ((output, losses), y) per batch;
        `features.last` belongs to it."""
        with self.evaluating():
            for rows in self.read(split, [index[start : start + batch]
                                          for start in range(0, len(index), batch)]):
                beat()
                x, y = self.tensors(*rows)
                yield self.forward(x, y), y

    def read(self, split, parts):
        """The (inputs, targets) of each of the parts, int64 (b,); for a GPU they are read ahead."""
        if self.copies is None:
            yield from (split.rows(part) for part in parts)
            return
        for _, *rows in read_batches(split, [SimpleNamespace(index=part) for part in parts], None, 0, 0,
                                     self.copies):
            yield rows

    @property
    def names(self):
        """The columns that `observe` and the losses make, of select.seen.COLUMNS."""
        return "loss", "value", *(("confidence", "correct") if self.classes else ())

    def wait(self):
        """Return when the device has done all that it was told to."""
        wait(self.device)

    def is_finite(self):
        """Whether all parameters are finite numbers."""
        found = [torch.isfinite(parameter).all() for parameter in self.model.parameters()]
        return not found or bool(torch.stack(found).all())  # one answer: a GPU is waited for once

    def fingerprint(self):
        """Hex digest of the names, shapes and types of the model's parameters and buffers: what a
        checkpoint must match."""
        shape = [(name, tuple(tensor.shape), str(tensor.dtype))
                 for name, tensor in self.model.state_dict().items()]
        return hashlib.sha256(repr(shape).encode()).hexdigest()[:16]

    def digest(self):
        """Hex digest of all parameters and buffers, bit for bit."""
        return _digest(self.model.state_dict().items())

    def parameter_digest(self):
        """Hex digest of the parameters alone, which are the same on all ranks after every step."""
        return _digest(self.model.named_parameters())

    def buffers(self):
        """The bits of all buffers, end to end, uint8 (K,). Inside an epoch each rank has its own."""
        return np.concatenate([np.zeros(0, np.uint8), *(_bytes(buffer) for buffer in self.model.buffers())])

    def set_buffers(self, bits):
        """Put back what `buffers` gave."""
        filled = [buffer for buffer in self.model.buffers() if buffer.numel()]
        ends = np.cumsum([buffer.nbytes for buffer in filled])
        for buffer, part in zip(filled, np.split(bits, ends[:-1]), strict=True):
            buffer.copy_(torch.from_numpy(part.copy()).view(buffer.dtype).reshape(buffer.shape))


class Features:
    """What went into the model's last linear layer in the last forward pass, with a 1 for its
    bias: `last`, tensor (b, d)."""

    def __init__(self, model):
        linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
        if not linear:
            raise InputError("score.name: needs a model with a torch.nn.Linear layer; this one has none")
        self.last = None
        self._bias = linear[-1].bias is not None
        linear[-1].register_forward_pre_hook(self._keep)

    def _keep(self, module, inputs):
        h = inputs[0].detach().float().flatten(1)
        self.last = torch.cat([h, torch.ones_like(h[:, :1])], dim=1) if self._bias else h


def _bytes(tensor):
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _digest(tensors):
    """Hex digest of (name, tensor) pairs, bit for bit."""
    state = hashlib.sha256()
    for name, tensor in tensors:
        state.update(name.encode() + _bytes(tensor).tobytes())
    return state.hexdigest()[:32]
