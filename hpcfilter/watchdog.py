"""The watchdog: a job in which nothing moves any more ends, and says where each rank stood.

A rank that hangs (a dead disk, a stopped process, a loop without end) leaves all others waiting in a collective for ever; Horovod's own
stall shutdown does not fire, since its coordinator waits in MPI too. So a thread on every rank looks for signs of life of its own rank's
work (`pulse.beat`). Where there was none for `timeout` seconds it tells ranks 0 and 1 at which line the work stands; they print that, name
the ranks of which no word came, and end the job.
"""

import os
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager

from hpcfilter import pulse
from hpcfilter.spans import by_value

LAST_RESORT = 5  # seconds that an abort may take before this process kills itself, which every launcher notices


@contextmanager
def watching(comm, timeout):
    """Watch over what happens in the block. All ranks must enter. timeout: seconds without a sign of life, 0 = for ever."""
    if not timeout:
        yield
        return
    watchdog, over = Watchdog(comm, timeout), threading.Event()
    thread = threading.Thread(target=watchdog.watch, args=(over,), name="hpcfilter-watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Watchdog:
    """One rank's watchdog."""

    def __init__(self, comm, timeout):
        self.comm, self.timeout = comm, timeout
        self.channel, self.work = comm.channel(), threading.get_ident()

    def watch(self, over):
        """Return when `over` is set; end the job when the work shows no sign of life."""
        tick, silent, seen = min(1.0, self.timeout / 10), 0.0, pulse.last
        while not over.wait(tick):
            # Ticks are counted, not the clock: a job that was suspended as a whole and goes on has nothing to answer for.
            silent = silent + tick if pulse.last == seen else 0.0
            seen = pulse.last
            if silent >= self.timeout:
                return self.end_job()

    def end_job(self):
        """Say what is known, then abort. Rank 0 speaks; if it is the one that hangs, rank 1; if both are, each for itself."""
        comm, here, grace = self.comm, where(self.work), min(2.0, self.timeout / 4)
        for rank in {0, 1} - {comm.rank}:
            if rank < comm.size:
                self.channel.post(here, rank)
        time.sleep(grace * (1 + min(comm.rank, 2)))
        words = {comm.rank: here, **self.channel.received()}
        missing = sorted(set(range(comm.size)) - set(words)) if comm.rank < 2 else []
        silence = f"; no word from {by_value(dict.fromkeys(missing, ''))}" if missing else ""
        print(f"hpcfilter: rank {comm.rank}: nothing has moved for {self.timeout:g} s, the job ends{silence}; {by_value(words)}",
              file=sys.stderr, flush=True)
        threading.Timer(LAST_RESORT, os.kill, (os.getpid(), signal.SIGKILL)).start()
        if comm.size == 1:
            os._exit(1)
        comm.abort(1)


def where(thread):
    """The line at which a thread stands, with the two calls that led there, innermost last."""
    frames = traceback.extract_stack(sys._current_frames()[thread])[-3:]
    return "at " + " > ".join(f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames)
