"""The GPU that a rank shows itself, for sites whose launcher does not bind GPUs: set before MPI, CUDA,
ROCm or Level Zero read the variable."""

import os
import re

from hpcfilter.base.errors import InputError
from hpcfilter.comm.launcher import LAUNCHERS, placement

GPU = "HPCFILTER_GPU"
_FORM = re.compile(r"((?:CUDA|ROCR|HIP)_VISIBLE_DEVICES|ZE_AFFINITY_MASK)=([\w./-]+(?:,[\w./-]+)*)")


def show_own_gpu(environ=os.environ):
    """Set the variable that HPCFILTER_GPU names to this rank's device of its list; without
    HPCFILTER_GPU do nothing.

    HPCFILTER_GPU: such as "CUDA_VISIBLE_DEVICES=3,2,1,0": local rank 0 takes device 3, local rank 1 device 2,
    local rank 4 device 3 again. Raises InputError when it is no such text, or when there are several ranks
    and the launcher gives no local rank.
    """
    if not (text := environ.get(GPU)):
        return
    if not (match := _FORM.fullmatch(text)):
        raise InputError(f"{GPU}: got '{text}', expected CUDA_VISIBLE_DEVICES, "
                         "ROCR_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES or ZE_AFFINITY_MASK with the devices of "
                         "local rank 0, 1, ..., such as CUDA_VISIBLE_DEVICES=3,2,1,0")
    variable, devices = match[1], match[2].split(",")
    local_rank = placement(environ).local_rank
    if local_rank is None:
        names = ", ".join(name for launcher in LAUNCHERS for name in launcher.local_ranks)
        raise InputError(f"{GPU}: got '{text}', but this launcher gives no local rank, "
                         f"expected one of {names}; have the launcher bind the GPUs")
    environ[variable] = devices[local_rank % len(devices)]
