"""What the launcher says before MPI starts."""

import os
from typing import NamedTuple


class Launcher(NamedTuple):
    """A launcher and its variables."""

    name: str
    rank: str
    size: str
    local_ranks: tuple  # of which one is set, or none


# The first whose rank and size are set counts. An mpiexec of its own may run inside a Slurm step, so Slurm's variables come late.
LAUNCHERS = (
    Launcher("mpirun of Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", ("OMPI_COMM_WORLD_LOCAL_RANK",)),
    Launcher("jsrun", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", ("JSM_NAMESPACE_LOCAL_RANK",)),
    Launcher("mpirun of MVAPICH", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", ("MV2_COMM_WORLD_LOCAL_RANK",)),
    Launcher("mpiexec of MPICH, Intel or PALS", "PMI_RANK", "PMI_SIZE", ("PMI_LOCAL_RANK", "PALS_LOCAL_RANKID", "MPI_LOCALRANKID")),
    Launcher("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", ("SLURM_LOCALID",)),  # the batch shell has no step and is one process
    Launcher("flux run", "FLUX_TASK_RANK", "FLUX_JOB_SIZE", ("FLUX_TASK_LOCAL_ID",)),
)


class Placement(NamedTuple):
    """Where the launcher has put this process."""

    rank: int
    size: int | None  # None: it does not say
    local_rank: int | None = None  # among the ranks of this node; None: it does not say


def placement(environ=os.environ):
    """Read the launcher's variables. environ: mapping of str to str. Returns Placement; (0, 1, 0) without a launcher."""
    if _number(environ, "PMIX_RANK") is not None and not any(environ.get(one.size) for one in LAUNCHERS):
        return Placement(_number(environ, "PMIX_RANK"), None)
    found = launchers(environ)
    if not found:
        return Placement(0, 1, 0)
    rank, size = found[0][1:]
    # What another launcher says holds if it means the same ranks: srun starts ranks of PMI and gives them no local rank of PMI.
    same = [launcher for launcher, *place in found if place == [rank, size]]
    local = [number for launcher in same for name in launcher.local_ranks if (number := _number(environ, name)) is not None]
    return Placement(rank, size, local[0] if local else 0 if size == 1 else None)


def launchers(environ=os.environ):
    """The launchers that give this process a place, the one that counts first. Returns list of (Launcher, rank, size)."""
    places = [(one, _number(environ, one.rank), _number(environ, one.size)) for one in LAUNCHERS]
    return [place for place in places if None not in place]


def _number(environ, name):
    text = environ.get(name, "")
    return int(text) if text.isdecimal() else None
