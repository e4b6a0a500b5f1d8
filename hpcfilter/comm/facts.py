"""What MPI says of itself. Nothing is started here."""

import sys


def mpi_facts():
    """MPI, if `world()` has started it. Returns {"library": str, "threads": "single" | "funneled" |
    "serialized" | "multiple"}; {} else."""
    if (MPI := sys.modules.get("mpi4py.MPI")) is None:
        return {}
    levels = {getattr(MPI, f"THREAD_{name.upper()}"): name
              for name in ("single", "funneled", "serialized", "multiple")}
    library = " ".join(MPI.Get_library_version().strip("\0\n ").split("\n")[0].split(",")[0].split())
    return {"library": library, "threads": levels[MPI.Query_thread()]}
