"""Ranks that ask for thresholds with guesses of their own: each prints what it is told, and
none waits for another."""

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.comm import world
from hpcfilter.select.threshold import lowest

comm = world()
scores = np.random.default_rng(comm.rank).normal(size=70_000).astype(np.float32)
for starts in ((0.5, 0.25), (None, 0.5), (0.5, None), (0.5, 0.5), (None, None)):
    try:
        told = str(comm.sum(np.count_nonzero(lowest(scores, 50_000, comm, starts[comm.rank]))))
    except InputError as error:
        told = str(error)
    texts = [comm.bcast(told, root=rank) for rank in range(comm.size)]
    if comm.rank == 0:
        print(*texts, sep=" | ", flush=True)
comm.close()
