"""Jobs: laid out on a machine, rendered into a script, checked, submitted; and ranks started here and now.
Needs neither torch nor MPI."""

from hpcfilter.jobs.local import mpirun, ranks_of, run_local, started

__all__ = ["mpirun", "ranks_of", "run_local", "started"]
