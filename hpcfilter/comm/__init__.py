"""Who am I, and how do we add up: the only speaker of mpi4py."""

import importlib.util
import os
import sys

from hpcfilter.base.errors import InputError
from hpcfilter.comm.base import Comm, SerialComm
from hpcfilter.comm.launcher import (
    Placement,
    by_torchrun,
    contradiction,
    left_out,
    not_understood,
    placement,
    speaks,
)
from hpcfilter.comm.visibility import show_own_gpu

__all__ = ["Comm", "Placement", "SerialComm", "check_not_left_out", "placement", "speaks",
           "surroundings", "world"]

ALONE = "HPCFILTER_ALONE"  # set where one process is to train, although there is room for more
MEANS = "HPCFILTER_COMM"  # by what the ranks of an MPI launcher meet: mpi, torch or auto
START = "start it with mpirun, srun, jsrun or torchrun"
SCRIPT = ("make the filter after init_process_group(), start Horovod scripts with mpirun, srun or jsrun, "
          "or give comm=")


def world(way_out=START):
    """The communicator of this launch: SerialComm for one process; under a launcher of MPI MPIComm, where
    there is mpi4py; else, and under torchrun, numbers travel over torch.distributed's gloo.

    Call it before torch is imported. mpi4py is imported only when there is more than one rank. With
    HPCFILTER_GPU the rank sees from here on its own GPU only. HPCFILTER_COMM=torch does without mpi4py.
    Raises InputError for a launch that it does not understand: each process would take itself for
    the only one. way_out: what to do then, for the error.
    """
    if said := contradiction():
        raise InputError(f"comm: {said}; {way_out}")
    if said := not_understood():
        raise InputError(f"comm: {said}, so this process is one of several, but no launcher that is known "
                         f"here says of how many; {way_out}")
    show_own_gpu()
    here = placement()
    if here.size == 1:
        return SerialComm()
    if by_torchrun() or not _has_mpi(here):
        from hpcfilter.comm.distributed import LaunchedComm

        return LaunchedComm(here)
    try:
        from hpcfilter.comm.mpi import MPIComm
    except (ImportError, RuntimeError) as error:  # of mpi4py, which finds no MPI
        raise InputError(f"comm: mpi4py cannot be used: {' '.join(str(error).split())[:200]}; load the MPI "
                         f"that it is built for, or set {MEANS}=torch") from None
    comm = MPIComm()
    if here.size not in (None, comm.size):
        raise InputError(f"comm: the launcher says {here.size} ranks, MPI {comm.size}: "
                         "mpi4py is built with another MPI than the launcher's, or srun needs --mpi=pmix "
                         f"(pmi2 for MPICH; job.launch); {MEANS}=torch does without MPI")
    return comm


def _has_mpi(here):
    """Whether the ranks of a launcher of MPI meet by mpi4py. Raises InputError where they could not
    meet without."""
    means = os.environ.get(MEANS, "auto") or "auto"
    if means not in ("auto", "mpi", "torch"):
        raise InputError(f"{MEANS}: got '{means}', expected auto, mpi or torch")
    if means == "torch" and here.size is None:
        raise InputError(f"{MEANS}: got torch, but this launcher does not say how many ranks there are "
                         "(PMIX_RANK alone is set); expected mpi, and mpi4py installed")
    return means == "mpi" or here.size is None or (means == "auto" and importlib.util.find_spec("mpi4py"))


def check_not_left_out(comm, way_out=START):
    """Raise InputError when this is the only process of a training for which more are allocated: without a
    launcher it would train alone by mistake.

    way_out: what to do then. HPCFILTER_ALONE=1 says that one process is meant.
    """
    if comm.size == 1 and os.environ.get(ALONE, "0") in ("", "0") and (said := left_out()):
        raise InputError(f"comm: {said}, but this process was started alone; {way_out}; "
                         f"where one process is meant, set {ALONE}=1")


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
    here = placement()
    if by_torchrun() or (here.size != 1 and not contradiction() and not _has_mpi(here)):
        raise InputError("comm: this script is one of several without MPI, and its process group is not "
                         f"there yet; {SCRIPT}")
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
    with comm.together():
        if horovod.size() != comm.size:
            raise InputError(f"comm: Horovod has {horovod.size()} ranks, the launch {comm.size}; "
                             "start the script with mpirun, srun or jsrun")
        if horovod.rank() != comm.rank:
            raise InputError(f"comm: Horovod says rank {horovod.rank()} of {horovod.size()}, "
                             f"MPI says {comm.rank} of {comm.size}; Horovod must be built with the MPI of "
                             "this launch (HOROVOD_WITH_MPI=1)")
        if comm.size > 1 and not horovod.mpi_threads_supported():
            raise InputError("comm: this MPI runs without MPI_THREAD_MULTIPLE, which Horovod beside "
                             "mpi4py needs")
