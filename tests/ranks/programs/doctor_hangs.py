"""The examination of a machine where the last rank's first look at the disk never returns."""

import time

import hpcfilter
from hpcfilter.jobs.doctor import examination, facts

comm = hpcfilter.world()


def in_a_dead_disk(*arguments):
    while True:
        time.sleep(0.1)


examination.PATIENCE = 4
if comm.rank == comm.size - 1:
    facts.hdf5 = in_a_dead_disk
examination.doctor(comm, ".")
