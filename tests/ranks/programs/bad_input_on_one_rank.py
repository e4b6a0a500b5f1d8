"""The last rank alone finds bad input while the others wait: the command line must end the
job with code 2."""

import sys

from hpcfilter import cli
from hpcfilter.base.errors import InputError
from hpcfilter.study.verbs import select


def run(words, comm):
    if comm.rank == comm.size - 1:
        raise InputError("no such thing here")
    comm.sum(1)


select.run = run  # any verb will do
sys.exit(cli.main(["select", "scores.h5", "--fraction", "0.5"]))
