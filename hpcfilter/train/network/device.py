"""The device of a rank, and what is set for the whole process: determinism, threads, memory."""

import ctypes
import os

import torch

from hpcfilter.base.errors import InputError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def device_of(wanted, local_rank):
    """The torch.device that `train.device` means on this rank. Raises InputError for a GPU
    that is not there."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError(f"train.device: got cuda, but torch {torch.__version__} sees no GPU here")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    # a launcher may show a rank only its own GPU
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


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
