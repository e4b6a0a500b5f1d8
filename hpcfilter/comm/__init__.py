"""Who am I, and how do we add up: the only speaker of mpi4py and Horovod."""

import os
import sys

from hpcfilter.comm.base import SerialComm
from hpcfilter.comm.launcher import Placement, placement
from hpcfilter.comm.visibility import show_own_gpu
from hpcfilter.errors import InputError

__all__ = ["Placement", "SerialComm", "placement", "surroundings", "world"]


def world():
    """The communicator of this launch: MPIComm under a launcher with more than one rank, else SerialComm.

    Call it before torch is imported. mpi4py is imported only when there is more than one rank. With HPCFILTER_GPU the rank sees from here on its
    own GPU only.
    """
    show_own_gpu()
    if placement().size == 1:
        return SerialComm()
    from hpcfilter.comm.mpi import MPIComm

    comm = MPIComm()
    if placement().size not in (None, comm.size):
        raise InputError(f"comm: the launcher says {placement().size} ranks, MPI {comm.size}: mpi4py is built with another MPI "
                         "than the launcher's, or srun needs --mpi=pmix (pmi2 for MPICH; job.launch)")
    return comm


def surroundings():
    """The communicator of a script that is at work already: the ranks of torch.distributed if it is initialised, else `world()`.

    Raises InputError when the launch says another number of ranks, or Horovod does: each rank would take itself for the only one.
    """
    distributed, horovod = sys.modules.get("torch.distributed"), sys.modules.get("horovod.torch")
    if distributed and distributed.is_available() and distributed.is_initialized():
        from hpcfilter.comm.distributed import TorchComm

        return TorchComm()
    comm = world()
    for name in ("WORLD_SIZE", "HOROVOD_SIZE"):  # of torchrun and horovodrun, which MPI knows nothing of
        if os.environ.get(name, "").isdigit() and int(os.environ[name]) != comm.size:
            raise InputError(f"comm: {name} is {os.environ[name]}, but there is MPI for {comm.size}; make the filter after init_process_group(), "
                             "start Horovod scripts with mpirun, srun or jsrun, or give comm=")
    if horovod and horovod.is_initialized():
        if horovod.size() != comm.size:
            raise InputError(f"comm: Horovod has {horovod.size()} ranks, the launch {comm.size}; start the script with mpirun, srun or jsrun")
        if comm.size > 1:
            comm.horovod()  # checks that the two can be used side by side
    return comm
