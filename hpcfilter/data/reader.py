"""One read-ahead thread per rank: the next batches are gathered and augmented while the network computes.

A thread and no processes: forked workers break MPI over InfiniBand, and the memory map needs no copy of itself.
"""

import queue
import threading

DEPTH = 2  # batches read ahead


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


def read_batches(split, batches, augment, seed, epoch):
    """Read each batch of an epoch ahead. batches: iterable of objects with `index`, int64 (b,).

    augment: function (images, labels, index, seed, epoch) -> (images, labels), or None. Yields (batch, images, labels).
    """
    def read():
        for batch in batches:
            images, labels = split.rows(batch.index)
            if augment is not None:
                images, labels = augment(images, labels, batch.index, seed, epoch)
            yield batch, images, labels

    return prefetch(read())
