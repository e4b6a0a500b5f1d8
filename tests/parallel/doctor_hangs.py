"""The examination of a machine where the last rank's first look at the disk never returns."""

import time

import hpcfilter
from hpcfilter.jobs import doctor

comm = hpcfilter.world()


def in_a_dead_disk(*arguments):
    while True:
        time.sleep(0.1)


doctor.PATIENCE = 4
if comm.rank == comm.size - 1:
    doctor.facts.hdf5 = in_a_dead_disk
doctor.doctor(comm, ".")
