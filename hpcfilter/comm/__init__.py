"""Who am I, and how do we add up: the only speaker of mpi4py and Horovod."""

import os
import sys
from typing import NamedTuple

from hpcfilter.comm.base import SerialComm
from hpcfilter.errors import InputError

__all__ = ["Placement", "SerialComm", "placement", "surroundings", "world"]

# (rank, size) as each launcher names them before MPI starts; the first pair that is set counts. An mpiexec of its own may run inside
# a Slurm step, so Slurm's variables come late.
_LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # mpirun of Open MPI
    ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE"),  # jsrun
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),  # MVAPICH
    ("PMI_RANK", "PMI_SIZE"),  # mpiexec of MPICH and Intel, PALS
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),  # srun; the batch shell has no step and is one process
    ("FLUX_TASK_RANK", "FLUX_JOB_SIZE"),  # flux run
)


class Placement(NamedTuple):
    """What the launcher says before MPI starts."""

    rank: int
    size: int | None  # None: it does not say


def placement(environ=os.environ):
    """Read the launcher's variables. environ: mapping of str to str. Returns Placement; (0, 1) without a launcher."""
    if environ.get("PMIX_RANK", "").isdigit() and not any(environ.get(size) for _, size in _LAUNCHERS):
        return Placement(int(environ["PMIX_RANK"]), None)
    for rank, size in _LAUNCHERS:
        if environ.get(rank, "").isdigit() and environ.get(size, "").isdigit():
            return Placement(int(environ[rank]), int(environ[size]))
    return Placement(0, 1)


def world():
    """The communicator of this launch: MPIComm under a launcher with more than one rank, else SerialComm.

    Call it before torch is imported. mpi4py is imported only when there is more than one rank.
    """
    if placement().size == 1:
        return SerialComm()
    from hpcfilter.comm.mpi import MPIComm

    comm = MPIComm()
    if placement().size not in (None, comm.size):
        raise InputError(f"comm: the launcher says {placement().size} ranks, MPI {comm.size}: mpi4py is built with another MPI than the launcher's")
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
