"""Who am I, and how do we add up: the only speaker of mpi4py."""

import os
import sys

from hpcfilter.base.errors import InputError
from hpcfilter.comm.base import Comm, SerialComm
from hpcfilter.comm.launcher import Placement, contradiction, left_out, placement, speaks
from hpcfilter.comm.visibility import show_own_gpu

__all__ = ["Comm", "Placement", "SerialComm", "check_not_left_out", "placement", "speaks",
           "surroundings", "world"]

ALONE = "HPCFILTER_ALONE"  # set where one process is to train, although there is room for more
START = "start it with mpirun, srun or jsrun"
SCRIPT = ("make the filter after init_process_group(), start Horovod scripts with mpirun, srun or jsrun, "
          "or give comm=")


def world(way_out=START):
    """The communicator of this launch: MPIComm under a launcher with more than one rank, else SerialComm.

    Call it before torch is imported. mpi4py is imported only when there is more than one rank. With
    HPCFILTER_GPU the rank sees from here on its own GPU only. Raises InputError when another launcher, such
    as torchrun, has started several processes, each of which would take itself for the only one.
    way_out: what to do then, for the error.
    """
    if said := contradiction():
        raise InputError(f"comm: {said}, but there is MPI for {placement().size or 'other ranks'}; {way_out}")
    show_own_gpu()
    if placement().size == 1:
        return SerialComm()
    from hpcfilter.comm.mpi import MPIComm

    comm = MPIComm()
    if placement().size not in (None, comm.size):
        raise InputError(f"comm: the launcher says {placement().size} ranks, MPI {comm.size}: "
                         "mpi4py is built with another MPI than the launcher's, or srun needs --mpi=pmix "
                         "(pmi2 for MPICH; job.launch)")
    return comm


def check_not_left_out(comm, way_out=START):
    """Raise InputError when this is the only process of a training for which more are allocated: without a
    launcher it would train alone by mistake.

    way_out: what to do then. HPCFILTER_ALONE=1 says that one process is meant.
    """
    if comm.size == 1 and os.environ.get(ALONE, "0") in ("", "0") and (said := left_out()):
        raise InputError(f"comm: {said}, but there is MPI for 1; {way_out}; where one process is meant, "
                         f"set {ALONE}=1")


def surroundings():
    """The communicator of a script that is at work already: the ranks of torch.distributed if it is
    initialised, else `world()`.

    Raises InputError when the launch says another number of ranks, or Horovod does: each rank would take
    itself for the only one.
    """
    distributed, horovod = sys.modules.get("torch.distributed"), sys.modules.get("horovod.torch")
    if distributed and distributed.is_available() and distributed.is_initialized():
        from hpcfilter.comm.distributed import TorchComm

        return TorchComm()
    comm = world(SCRIPT)
    check_not_left_out(comm, SCRIPT)
    if horovod and horovod.is_initialized():
        check_beside(comm, horovod)
    return comm


def check_beside(comm, horovod):
    """Raise InputError on all ranks unless Horovod, which has been initialised, can be used
    beside this communicator.

    horovod: the module horovod.torch, of a script or a training that has imported it.
    """
    if horovod.size() != comm.size:
        raise InputError(f"comm: Horovod has {horovod.size()} ranks, the launch {comm.size}; "
                         "start the script with mpirun, srun or jsrun")
    with comm.together():
        if horovod.rank() != comm.rank:
            raise InputError(f"comm: Horovod says rank {horovod.rank()} of {horovod.size()}, "
                             f"MPI says {comm.rank} of {comm.size}; Horovod must be built with the MPI of "
                             "this launch (HOROVOD_WITH_MPI=1)")
        if comm.size > 1 and not horovod.mpi_threads_supported():
            raise InputError("comm: this MPI runs without MPI_THREAD_MULTIPLE, which Horovod beside "
                             "mpi4py needs")
