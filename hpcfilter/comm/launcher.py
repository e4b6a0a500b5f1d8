"""What the launcher says before MPI starts."""

import os
from pathlib import Path
from typing import NamedTuple


class Launcher(NamedTuple):
    """A launcher and its variables."""

    name: str
    rank: str
    size: str
    local_ranks: tuple  # of which one is set, or none


# The first whose rank and size are set counts. An mpiexec of its own may run inside a Slurm step, so
# Slurm's variables come late.
LAUNCHERS = (
    Launcher("mpirun of Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
             ("OMPI_COMM_WORLD_LOCAL_RANK",)),
    Launcher("jsrun", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", ("JSM_NAMESPACE_LOCAL_RANK",)),
    Launcher("mpirun of MVAPICH", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE",
             ("MV2_COMM_WORLD_LOCAL_RANK",)),
    Launcher("mpiexec of MPICH, Intel or PALS",
             "PMI_RANK", "PMI_SIZE", ("PMI_LOCAL_RANK", "PALS_LOCAL_RANKID", "MPI_LOCALRANKID")),
    # the batch shell has no step and is one process
    Launcher("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", ("SLURM_LOCALID",)),
    Launcher("flux run", "FLUX_TASK_RANK", "FLUX_JOB_SIZE", ("FLUX_TASK_LOCAL_ID",)),
)

SALLOC = "4294967290"  # the step that salloc's shell is, of one task, whatever was allocated
# What a batch job says of its tasks and nodes, in the shell where nothing was launched
MORE = ("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_JOB_NUM_NODES", "SLURM_NNODES", "PBS_NUM_NODES",
        "FLUX_JOB_NNODES", "NHOSTS", "COBALT_JOBSIZE")

# torchrun, and those that do as it does (accelerate, deepspeed): ranks that MPI knows nothing of, which meet
# at MASTER_ADDR and MASTER_PORT
TORCHRUN = Launcher("torchrun", "RANK", "WORLD_SIZE", ("LOCAL_RANK",))
MEETING = ("MASTER_ADDR", "MASTER_PORT")
# Ranks of launchers that do not say of how many: MPI does
UNSIZED = ("PMIX_RANK", "PALS_RANKID", "ALPS_APP_PE")
# What those say of the ranks of a node: PALS with PMIx, Intel's
UNSIZED_LOCAL = ("PALS_LOCAL_RANKID", "MPI_LOCALRANKID")
# Numbers of a process among others, beside all those: of Intel's, Slurm's and Fujitsu's launchers
OTHERS = ("PALS_LOCAL_RANKID", "MPI_LOCALRANKID", "PMI_ID", "PLE_RANK_ON_NODE")
# What starts ranks that we have no way to bring together: horovodrun with Gloo
STRANGERS = (Launcher("horovodrun", "HOROVOD_RANK", "HOROVOD_SIZE", ("HOROVOD_LOCAL_RANK",)),)


class Placement(NamedTuple):
    """Where the launcher has put this process."""

    rank: int
    size: int | None  # None: it does not say
    local_rank: int | None = None  # among the ranks of this node; None: it does not say


def placement(environ=os.environ):
    """Read the launcher's variables. environ: mapping of str to str. Returns Placement;
    (0, 1, 0) without a launcher."""
    if by_torchrun(environ):
        _, rank, size = launchers(environ, (TORCHRUN,))[0]
        return Placement(rank, size, _number(environ, "LOCAL_RANK"))
    found = launchers(environ)
    if not found:
        rank, local = _first(environ, UNSIZED), _first(environ, UNSIZED_LOCAL)
        return Placement(0, 1, 0) if rank is None else Placement(rank, None, local)
    rank, size = found[0][1:]
    # What another launcher says holds if it means the same ranks: srun starts ranks of PMI and gives
    # them no local rank of PMI.
    same = [launcher for launcher, *place in found if place == [rank, size]]
    local = [number for launcher in same
             for name in launcher.local_ranks if (number := _number(environ, name)) is not None]
    return Placement(rank, size, local[0] if local else 0 if size == 1 else None)


def launchers(environ=os.environ, known=LAUNCHERS):
    """The launchers that give this process a place, the one that counts first. Returns list of
    (Launcher, rank, size)."""
    places = [(one, _number(environ, one.rank), _number(environ, one.size)) for one in known]
    return [place for place in places if None not in place]


def by_torchrun(environ=os.environ):
    """Whether torchrun, or what does as it does, has started this process as one of several.

    On several nodes a launcher of MPI may have started the torchruns, one on each: then it counts them, not
    their processes. A size without a rank is no place: it may have been exported in the shell.
    """
    mine = [size for _, _, size in launchers(environ, (TORCHRUN,)) if size > 1]
    others = launchers(environ)
    torchruns = _number(environ, "GROUP_WORLD_SIZE")  # which only torchrun itself says
    if not others and any(name in environ for name in UNSIZED):  # MPI will say how many there are
        return bool(mine) and torchruns is not None
    many = [size for _, _, size in others if size > 1]  # the first is the inner one
    return bool(mine) and many[:1] in ([], [torchruns])


def speaks(environ=os.environ):
    """Whether this process is the one to report for all when there is no communicator yet: the first of each
    launcher that gives it a place."""
    strangers = launchers(environ, (TORCHRUN, *STRANGERS))
    return placement(environ).rank == 0 and all(rank == 0 for _, rank, _ in strangers)


def contradiction(environ=os.environ):
    """What one launcher says of this process that another does not, with the variables: "WORLD_SIZE is 4 and
    RANK 1, as torchrun sets them, ..."; "" when they agree, or only one says more than one process."""
    here = placement(environ)
    if here.size == 1 and (number := _number(environ, "PMIX_RANK")):
        return f"PMIX_RANK is {number}, {_counting(environ)}"
    for one, rank, size in launchers(environ, (TORCHRUN, *STRANGERS)):
        if size > 1 and (rank, size) != (here.rank, here.size or size):
            return f"{_said(one, rank, size)}, {_counting(environ)}"
    return ""


def not_understood(environ=os.environ):
    """What says that this process is one of several, where no launcher that we know does: "ALPS_APP_PE is 3";
    "" when nothing does. The first of them has the number 0, and cannot tell."""
    if placement(environ) != Placement(0, 1, 0):
        return ""
    names = [name for one in (*LAUNCHERS, TORCHRUN, *STRANGERS) for name in (one.rank, *one.local_ranks)]
    return next((f"{name} is {environ[name]}" for name in (*names, *OTHERS) if _number(environ, name)), "")


def _said(one, rank, size):
    return f"{one.size} is {size} and {one.rank} {rank}, as {one.name} sets them"


def _counting(environ):
    """What the launcher that counts says of this process, in words."""
    found = launchers(environ)
    return f"but {_said(*found[0])}" if found else "and no launcher of MPI has started it"


def left_out(environ=os.environ):
    """What says that more processes were meant where no launcher has started this one: "SLURM_NTASKS is
    8"; "" when nothing does.

    In the shell of a batch job, or of salloc, one process is right for much, but a training was to use the
    whole of it. Slots of LSF and PBS may be the threads of one process; hosts cannot. Of two launchers, one
    inside the other, the inner one may have started one process in each of many.
    """
    if many := [f"{one.size} is {size}" for one, _, size in launchers(environ) if size > 1]:
        return many[0] if placement(environ).size == 1 else ""
    if by_torchrun(environ) or [place for place in launchers(environ)
                                if place[0].name != "srun" or environ.get("SLURM_STEP_ID") != SALLOC]:
        return ""
    for name in (*MORE, *(one.size for one in (TORCHRUN, *STRANGERS))):
        if (_number(environ, name) or 0) > 1:
            return f"{name} is {environ[name]}"
    for name in ("LSB_DJOB_HOSTFILE", "PBS_NODEFILE"):
        if (hosts := _hosts(environ.get(name))) > 1:
            return f"{name} names {hosts} hosts"
    return ""


def _hosts(path):
    """How many hosts a file names, one a line; 0 without one."""
    try:
        return (len({line.strip() for line in Path(path).read_text().splitlines() if line.strip()})
                if path else 0)
    except (OSError, ValueError):
        return 0


def _first(environ, names):
    """The first number that one of these variables has; None without any."""
    return next((number for name in names if (number := _number(environ, name)) is not None), None)


def _number(environ, name):
    text = environ.get(name, "")
    return int(text) if text.isdecimal() else None
