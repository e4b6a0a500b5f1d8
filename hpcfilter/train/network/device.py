"""The device of a rank, and what is set for the whole process: determinism, threads, memory.

What torch has a module for, as torch.cuda (NVIDIA, and AMD by ROCm) and torch.xpu (Intel), is asked of
`module_of`, so that nobody else asks which kind of GPU it is.
"""

import ctypes
import os

import torch

from hpcfilter.base.errors import InputError

GPUS = "cuda", "xpu"  # kinds that torch may see, in the order in which auto takes them
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def module_of(device):
    """torch's module for the device, such as torch.cuda; torch.cpu has the same streams, which do nothing."""
    return torch.get_device_module(device)


def device_of(wanted, local_rank):
    """The torch.device that `train.device` means on this rank. Raises InputError for a GPU
    that is not there.

    A rank takes the GPU of its local rank, which becomes the current one; of several ranks on a node with
    fewer GPUs, some share one.
    """
    kind = next((kind for kind in GPUS if wanted in ("auto", kind) and module_of(kind).is_available()), "cpu")
    if kind == "cpu" and wanted not in ("auto", "cpu"):
        raise InputError(f"train.device: got {wanted}, but torch {torch.__version__} sees no GPU here")
    if kind == "cpu":
        return torch.device("cpu")
    # a launcher may show a rank only its own GPU
    device = torch.device(kind, local_rank % module_of(kind).device_count())
    module_of(kind).set_device(device)
    return device


def sent(part, device):
    """An array or a tensor as a tensor on the device. Towards a GPU it goes out of pinned memory, and nobody
    waits for it: what is computed there on the current stream comes after it."""
    tensor = torch.as_tensor(part)
    if tensor.device == device or device.type == "cpu":
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


def seed_generators(device, number):
    """Seed the generators that a model on the device draws from. As torch.manual_seed, which where there is
    no GPU takes note of the whole call stack for one that may come: 0.7 ms in every step."""
    torch.default_generator.manual_seed(number)
    if device.type != "cpu":
        module_of(device).manual_seed(number)


def wait(device):
    """Return when the device has done all that it was told to on the current stream; not Horovod's
    streams, whose sums may go on."""
    if device.type != "cpu":
        module_of(device).current_stream().synchronize()


def generators_kept(device):
    """A context after which torch's generators are as before, those of the device too."""
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device], device_type=device.type)


def set_determinism(wanted):
    """Have torch refuse what does not give the same bits every time; the sums over the ranks are
    the communicator's part."""
    if wanted:
        # cuBLAS reads it when the GPU is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)


def set_threads(device, local_size):
    """Share the cores of the node among its ranks, unless OMP_NUM_THREADS says how, or the launcher has
    bound the rank already."""
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        mine = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, mine // local_size) if mine == os.cpu_count() else mine)


def keep_memory(device):
    """Have the C library keep freed memory for the next batch: given back to the system, each page costs a
    fault when it is wanted again."""
    if device.type == "cpu" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):  # of glibc
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
