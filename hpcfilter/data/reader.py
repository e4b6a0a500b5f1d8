"""One read-ahead thread per rank: the next batches are gathered and augmented while the network computes.

A thread and no processes: forked workers break MPI over InfiniBand, and the memory map needs
no copy of itself.
"""

import queue
import threading
from itertools import islice

import numpy as np

from hpcfilter.base.trees import each, leaves

DEPTH = 2  # groups of batches read ahead
GROUP_BYTES = 2**20  # of the rows of a group
MOST = 16  # batches of a group


def prefetch(batches, depth=DEPTH):
    """Run the iterable `batches` in a thread, at most `depth` items ahead, and yield its items in order.

    An exception of the thread is raised here. Leaving the generator early ends the thread.
    """
    ready, stopped, end = queue.Queue(maxsize=depth), threading.Event(), object()

    def put(item):
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def read():
        try:
            for item in batches:
                put((item, None))
                if stopped.is_set():
                    return
            put((end, None))
        except BaseException as error:  # handed over to the consumer
            put((end, error))

    thread = threading.Thread(target=read, name="hpcfilter-reader", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


def _cut(tree, start, end):
    return each(lambda part: part[start:end], tree)


def read_batches(rows, batches, augment, seed, epoch, copies=None):
    """Read each batch of an epoch ahead; small ones several at once, since every turn of the
    thread holds up the training.

    rows: data.rows.Rows. batches: iterable of objects with `index`, int64 (b,). augment: function
    (inputs, targets, index, seed, epoch) -> (inputs, targets), or None. copies: object whose `begin` starts
    to copy a tree to the device, and whose `arrived` has the computing wait for it; the copies of what is
    read ahead go on while the network computes. None: rows stay where they are. Yields (batch, inputs,
    targets), trees as the rows have them.
    """
    def read():
        left, size = iter(batches), 1
        while group := list(islice(left, size)):
            index = np.concatenate([batch.index for batch in group])
            inputs, targets = rows.rows(index)
            if augment is not None:
                inputs, targets = augment(inputs, targets, index, seed, epoch)
            size = min(
                max(1, GROUP_BYTES * len(group) // max(1, sum(part.nbytes for part in leaves(inputs)))), MOST)
            ends = np.cumsum([len(batch.index) for batch in group]).tolist()
            whole, mark = copies.begin((inputs, targets)) if copies else ((inputs, targets), None)
            yield whole, mark, [(batch, *_cut(whole, start, end))
                                for batch, start, end in zip(group, [0, *ends], ends, strict=False)]

    for whole, mark, group in prefetch(read()):
        if copies:
            copies.arrived(whole, mark)
        yield from group
