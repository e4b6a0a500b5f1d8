"""All laws of tests/helpers/comm_laws.py on MPI."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "helpers"))
from comm_laws import LAWS

from hpcfilter.comm import world

comm = world()
assert comm.backend == ("mpi" if comm.size > 1 else "serial")
for name, law in LAWS.items():
    law(comm)
    comm.barrier()
    if comm.rank == 0:
        print("held", name)
comm.close()
