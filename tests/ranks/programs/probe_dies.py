"""`hpcfilter probe` of which rank 1 is killed without a word. Words: a method of Loss, at which call of it,
and those of the probe."""

import itertools
import os
import signal
import sys

from hpcfilter import cli
from hpcfilter.comm import placement
from hpcfilter.study.landscape import file
from hpcfilter.study.landscape.loss import Loss

name, number, *words = sys.argv[1:]
do, calls = getattr(Loss, name), itertools.count(1)


def dies(*arguments):
    if next(calls) == int(number) and placement().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return do(*arguments)


setattr(Loss, name, dies)
file.EVERY = 0.0
sys.exit(cli.main(["probe", *words]))
