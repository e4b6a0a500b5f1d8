"""The watchdog: a job in which nothing moves any more ends, and says where each rank stood.

A rank that hangs (a dead disk, a stopped process, a loop without end) leaves all others waiting in a
collective for ever; Horovod's own stall shutdown does not fire, since its coordinator waits in MPI too. So a
thread on every rank looks for signs of life of its rank's work (`pulse.beat`), and tells its neighbours in a
tree how many seconds ago the last one was that it knows of: ranks that wait for one that is busy, as in a
save, stay patient. When there was none anywhere for `timeout` seconds, each tells two speakers at which line
its work stands; they print that, name the ranks of which no word came, and end the job.
"""

import os
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager

from hpcfilter.base.alive import pulse
from hpcfilter.base.spans import by_value, spans

LAST_WORD = 0.5  # seconds that the launcher has to pass on what was said
# seconds that an abort may take before this process kills itself, which every launcher notices
LAST_RESORT = 5


@contextmanager
def watching(comm, timeout):
    """Watch over what happens in the block. All ranks must enter. timeout: seconds without a sign
    of life, 0 = for ever."""
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
        watchdog.channel.close()


class Watchdog:
    """One rank's watchdog."""

    def __init__(self, comm, timeout):
        self.comm, self.timeout = comm, timeout
        self.channel, self.work = comm.channel(), threading.get_ident()
        self.words = {}  # rank -> where its work stands, of those that have given up
        tree = [(comm.rank - 1) // 2, 2 * comm.rank + 1, 2 * comm.rank + 2]
        self.neighbours = [rank for rank in tree if 0 <= rank < comm.size and rank != comm.rank]
        self.speakers = dict.fromkeys((0, comm.size // 2))  # on two nodes, if there are as many

    def watch(self, over):
        """Return when `over` is set; end the job when nobody's work shows a sign of life."""
        tick, silent, seen = min(1.0, self.timeout / 10), 0.0, pulse.last
        while not over.wait(tick):
            # Ticks are counted, not the clock: a job that was suspended as a whole and goes on
            # has nothing to answer for.
            silent = silent + tick if pulse.last == seen else 0.0
            seen = pulse.last
            silent = min([silent, *(seconds + tick for seconds in self.listen())])
            if silent >= self.timeout:
                return self.end_job()
            for rank in self.neighbours:
                self.channel.post(f"{silent}", rank)

    def listen(self):
        """Take in what the other ranks say. Returns list of float: for how many seconds they
        know of no sign of life."""
        heard = self.channel.received()
        self.words |= {rank: text for rank, text in heard.items() if not text[0].isdigit()}
        return [float(text) for text in heard.values() if text[0].isdigit()]

    def end_job(self):
        """Say what is known, then abort. Rank 0 speaks; if it is the one that hangs, the other speaker; if
        both do, each for itself."""
        comm, here, grace = self.comm, where(self.work), min(2.0, self.timeout / 4)
        for rank in self.speakers:
            if rank != comm.rank:
                self.channel.post(here, rank)
        time.sleep(grace * (1 + [*self.speakers, comm.rank].index(comm.rank)))
        self.listen()
        words = {comm.rank: here, **self.words}
        missing = sorted(set(range(comm.size)) - set(words)) if comm.rank in self.speakers else []
        silence = f"; no word from {spans(missing)}" if missing else ""
        print(f"hpcfilter: rank {comm.rank}: nothing has moved for {self.timeout:g} s, "
              f"the job ends{silence}; {by_value(words)}", file=sys.stderr, flush=True)
        threading.Timer(LAST_RESORT, os.kill, (os.getpid(), signal.SIGKILL)).start()
        time.sleep(LAST_WORD)
        if comm.size == 1:
            os._exit(1)
        comm.abort(1)


def where(thread):
    """The line at which a thread stands, with the two calls that led there, innermost last; if it waits for
    its reader, that of the reader too."""
    here = _lines(thread)
    readers = ([other.ident for other in threading.enumerate() if other.name == "hpcfilter-reader"]
               if "reader.py" in here else [])
    return "; its reader ".join(f"at {lines}" for lines in [here, *map(_lines, readers)])


def _lines(thread):
    frames = traceback.extract_stack(sys._current_frames()[thread])[-3:]
    return " > ".join(f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames)
