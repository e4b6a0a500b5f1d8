"""All laws of tests/comm_laws.py on torch.distributed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import torch.distributed as dist
from comm_laws import LAWS

from hpcfilter.comm import surroundings

dist.init_process_group("gloo")
comm = surroundings()
assert comm.backend == "torch" and comm.size == dist.get_world_size() and comm.rank == dist.get_rank()
for name, law in LAWS.items():
    law(comm)
    comm.barrier()
    if comm.rank == 0:
        print("held", name)
dist.destroy_process_group()
