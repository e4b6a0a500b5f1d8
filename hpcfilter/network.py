"""A model on its device: rows become tensors, tensors become one loss and one observation per sample. No communication, no files."""

import ctypes
import hashlib
import os
from contextlib import contextmanager

import numpy as np
import torch
from torch.nn import functional

from hpcfilter import models
from hpcfilter.checks import classes_of, loss_name, score_of, shapes_of
from hpcfilter.config import imported
from hpcfilter.errors import InputError
from hpcfilter.pulse import beat
from hpcfilter.randomness import hash64

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def cross_entropy(output, target, label_smoothing=0.0):
    """Cross entropy of each sample. output: logits (b, C); target: int64 (b,). Returns (b,)."""
    return functional.cross_entropy(output, target, reduction="none", label_smoothing=label_smoothing)


def mse(output, target):
    """Squared error of each sample, mean over its values. output: any shape with as many values as target (b, ...). Returns (b,)."""
    return (output.reshape(target.shape) - target).square().reshape(len(target), -1).mean(dim=1)


class Network:
    """The model of a run config for a data set, on this rank's device.

    dataset: data.Dataset. config: config.Config. local_rank, local_size: this rank's place on its node.
    Raises InputError for a device, model, loss or score that cannot be had with this data set.
    """

    def __init__(self, config, dataset, local_rank=0, local_size=1):
        train = config.train
        self.reconstructs = train.loss == "reconstruction"  # the target is the sample itself, and labels play no part
        self.classes, self.layout = classes_of(config, dataset), dataset.layout
        _set_determinism(train.deterministic)
        self.device = _device(train.device, local_rank)
        self.channels_last, self.precision = train.channels_last, getattr(torch, train.precision)
        _set_threads(self.device, local_size)
        _keep_memory(self.device)
        sample, outputs = shapes_of(config, dataset)
        self._build = lambda: models.build(config.model.name, config.model.factory, config.model.model_extra, sample, outputs)
        torch.manual_seed(seed_of(config.seed, 0, "weights"))
        self.model = self._build().to(self.device)  # built on the CPU, so that the same seed gives the same weights on every device
        self.mean, self.std = (torch.from_numpy(part).to(self.device).reshape(-1, *[1] * (len(sample) - 1)) for part in (dataset.mean, dataset.std))
        self.loss = _loss(train, self.classes)
        self.score = score_of(config, dataset)
        self.features = Features(self.model) if self.score.needs_features else None

    def begin_anew(self, seed, epoch):
        """Give the model fresh weights in place, a function of (seed, epoch)."""
        torch.manual_seed(seed_of(seed, epoch, "weights"))
        self.model.load_state_dict(self._build().state_dict())

    def seed(self, number):
        """Set the generators that the model draws from, such as dropout. As torch.manual_seed, which where there is no GPU takes note of the whole
        call stack for one that may come: 0.7 ms in every step."""
        torch.default_generator.manual_seed(number)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(number)

    def tensors(self, images, labels):
        """Move rows to the device. images: numpy or tensor (b, ...); labels: (b, ...). Returns (x float32, normalised; y int64 or float32)."""
        x = torch.as_tensor(images).to(self.device, non_blocking=True)
        y = torch.as_tensor(labels).to(self.device, torch.int64 if self.classes else torch.float32, non_blocking=True)
        if self.layout == "HW":
            x = x[:, None]
        elif self.layout == "HWC":
            x = x.movedim(-1, 1)
        x = (x.to(torch.float32) - self.mean).div_(self.std)
        return self.laid_out(x), y

    def laid_out(self, x):
        """The samples in the memory layout of the config. x: (b, ...). With train.channels_last images (b, c, h, w) lie pixel by pixel."""
        if not self.channels_last or x.ndim != 4:
            return x.contiguous()
        x = x.contiguous(memory_format=torch.channels_last)
        channels, height, width = x.shape[1:]
        # Both layouts of one channel are the same memory, and torch takes it for the other one unless the strides say which
        return x.as_strided(x.shape, (channels * height * width, 1, channels * width, channels)) if channels == 1 else x

    def forward(self, x, y):
        """Returns (output float32 (b, ...), losses float32 (b,), one per sample)."""
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            output = self.model(x)
        output = output.float()
        return output, self.loss(output, x if self.reconstructs else y)

    def try_out(self, split, index):
        """Run model, loss and score on a few rows, so that what does not fit is known before the run. Raises InputError."""
        with self.evaluating():
            x, y = self.tensors(*split.rows(index))
            try:
                output, losses = self.forward(x, y)
                seen = {"value": losses} if self.score.needs_passes else self.observe(output, y, losses)
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                raise InputError(f"model: fails on samples of shape {tuple(x.shape[1:])} with targets of shape {tuple(y.shape[1:])}: "
                                 f"{' '.join(str(error).split())}") from None
        for name, values in (("train.loss", losses), ("score.name", seen["value"])):
            if values.shape != (len(x),):
                raise InputError(f"{name}: got values of shape {tuple(values.shape)}, expected one per sample, ({len(x)},)")

    def observe(self, output, y, losses):
        """What is worth knowing of each sample of the batch that has just gone forward. Returns name -> tensor (b,), as `Score.observe`."""
        return self.score.observe(output, y, losses, self.features and self.features.last, self.classes > 0)

    @contextmanager
    def evaluating(self):
        """Eval mode without gradients; the modes of all parts are as before afterwards."""
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            for module, training in modes.items():
                module.training = training

    def look(self, split, index, batch):
        """Forward pass over rows in eval mode. index: int64 (m,). Returns (observations: name -> numpy (m,), losses float32 (m,))."""
        seen = Columns(self.classes > 0)
        for (output, losses), y in self.forward_all(split, index, batch):
            seen.add(self.observe(output, y, losses), losses)
        return seen.arrays()

    def forward_all(self, split, index, batch):
        """Forward pass over rows in eval mode, without gradients. Yields ((output, losses), y) per batch; `features.last` belongs to it."""
        with self.evaluating():
            for start in range(0, len(index), batch):
                beat()
                x, y = self.tensors(*split.rows(index[start : start + batch]))
                yield self.forward(x, y), y

    def gradient_bytes(self):
        """Bytes of the gradients that one rank adds to the sum in a step."""
        return sum(parameter.nbytes for parameter in self.model.parameters() if parameter.requires_grad)

    def wait(self):
        """Return when the device has done all that it was told to."""
        if self.device.type == "cuda":
            torch.cuda.current_stream().synchronize()  # not Horovod's streams, whose sums may go on

    def is_finite(self):
        """Whether all parameters are finite numbers."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters())

    def fingerprint(self):
        """Hex digest of the names, shapes and types of the model's parameters and buffers: what a checkpoint must match."""
        shape = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in self.model.state_dict().items()]
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
    """What went into the model's last linear layer in the last forward pass, with a 1 for its bias: `last`, tensor (b, d)."""

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


_TYPES = {"value": np.float32, "loss": np.float32, "confidence": np.float32, "correct": np.bool_}


def _bytes(tensor):
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _digest(tensors):
    """Hex digest of (name, tensor) pairs, bit for bit."""
    state = hashlib.sha256()
    for name, tensor in tensors:
        state.update(name.encode() + _bytes(tensor).tobytes())
    return state.hexdigest()[:32]


class Columns:
    """Observations of many batches, kept on the device until they are wanted: no wait for the device in every step."""

    def __init__(self, classes, before=None):
        """classes: whether the targets are classes. before: name -> array, what `arrays` gave when it was put away."""
        self._before = before or {}
        self._parts = {name: [] for name in ("loss", "value", *(("confidence", "correct") if classes else ()))}

    def add(self, seen, losses):
        """seen: name -> tensor (b,), as `Network.observe` gives it. losses: tensor (b,)."""
        for name, tensor in {**seen, "loss": losses}.items():
            self._parts[name].append(tensor.detach())

    def arrays(self):
        """(observations: name -> numpy (m,), losses float32 (m,)), in the order of the batches."""
        columns = {}
        for name, parts in self._parts.items():
            now = [torch.cat(parts).cpu().numpy()] if parts else []
            columns[name] = np.concatenate([np.asarray(self._before.get(name, []), _TYPES[name]), *now]).astype(_TYPES[name])
        losses = columns.pop("loss")
        return columns, losses


def seed_of(seed, epoch, stream, index=0):
    """A seed for torch's generator as a function of (seed, epoch, index) and its use."""
    return int(hash64(seed, epoch, np.array([index]), stream)[0] >> np.uint64(1))


def _device(wanted, local_rank):
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError(f"train.device: got cuda, but torch {torch.__version__} sees no GPU here")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())  # a launcher may show a rank only its own GPU
    torch.cuda.set_device(device)
    return device


def _set_determinism(wanted):
    """Have torch refuse what does not give the same bits every time; the sums over the ranks are the communicator's part."""
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when the GPU is first used
    torch.use_deterministic_algorithms(wanted)


def _set_threads(device, local_size):
    """Share the cores of the node among its ranks, unless OMP_NUM_THREADS says how, or the launcher has bound the rank already."""
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        mine = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, mine // local_size) if mine == os.cpu_count() else mine)


def _keep_memory(device):
    """Have the C library keep freed memory for the next batch: given back to the system, each page costs a fault when it is wanted again."""
    if device.type == "cpu" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):  # of glibc
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _loss(train, classes):
    """The loss function."""
    name = loss_name(train, classes)
    if ":" in name:
        return imported(name, "train.loss")()
    if name == "cross_entropy":
        return lambda output, target: cross_entropy(output, target, train.label_smoothing)
    return mse
