"""Run a script with the variables that torchrun sets, on ranks that mpirun has
started: as_torchrun.py PORT SCRIPT."""

import os
import runpy
import sys

port, script = sys.argv[1:]
os.environ |= {"RANK": os.environ["OMPI_COMM_WORLD_RANK"], "WORLD_SIZE": os.environ["OMPI_COMM_WORLD_SIZE"],
               "LOCAL_RANK": os.environ["OMPI_COMM_WORLD_LOCAL_RANK"],
               "LOCAL_WORLD_SIZE": os.environ["OMPI_COMM_WORLD_LOCAL_SIZE"], "MASTER_ADDR": "127.0.0.1",
               "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
runpy.run_path(script, run_name="__main__")
