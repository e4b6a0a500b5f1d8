"""All laws of tests/helpers/comm_laws.py on torch.distributed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "helpers"))
import torch.distributed as dist
from comm_laws import LAWS

from hpcfilter.comm import surroundings
from hpcfilter.comm.distributed import TorchComm

dist.init_process_group("gloo")
comm = surroundings()
assert comm.backend == "torch" and comm.size == dist.get_world_size() and comm.rank == dist.get_rank()
for name, law in LAWS.items():
    law(comm)
    comm.barrier()
    if comm.rank == 0:
        print("held", name)
if comm.size == 3:  # the data-parallel ranks of a network that is spread over several are a part of all
    part = dist.new_group([1, 2])
    if comm.rank in (1, 2):
        comm = TorchComm(part)
        assert (comm.rank, comm.size) == (dist.get_rank() - 1, 2)
        for law in LAWS.values():
            law(comm)
        if comm.rank == 0:
            print("held in a part")
dist.destroy_process_group()
