"""What each rank shows itself of the GPUs at the moment MPI is loaded."""

import os
import sys

import numpy as np

import hpcfilter

seen = []


class Listener:
    def find_spec(self, name, path=None, target=None):
        if name == "mpi4py.MPI":
            seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))


assert "mpi4py.MPI" not in sys.modules, "the runner of mpi4py has loaded MPI"
sys.meta_path.insert(0, Listener())
comm = hpcfilter.world()
for number, device in enumerate(comm.allgather(np.array([int(seen[0])]))):
    if comm.rank == 0:
        print(f"rank {number} saw {device[0]}")
comm.close()
