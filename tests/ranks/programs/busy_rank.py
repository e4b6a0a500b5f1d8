"""Rank 0 is busy for three times the watchdog's timeout while the others wait for it: nobody is
ended. busy_rank.py SECONDS"""

import sys
import time

from hpcfilter.base.alive import pulse
from hpcfilter.base.alive.watchdog import watching
from hpcfilter.comm import world

comm, timeout = world(), float(sys.argv[1])
with watching(comm, timeout):
    end = time.monotonic() + 3 * timeout
    while comm.rank == 0 and time.monotonic() < end:
        time.sleep(0.1)
        pulse.beat()
    comm.barrier()
if comm.rank == 0:
    print("all here")
comm.close()
