"""What the network is worth: its test result, and whether its weights are sound."""

import numpy as np

from hpcfilter.base.alive import faults
from hpcfilter.base.errors import BrokenInvariant, on_all
from hpcfilter.base.spans import by_value

LOOK_FACTOR = 4  # a forward pass without gradients takes batches this much larger


def look_batch(parts):
    """Samples of a forward pass without gradients."""
    own = -(-parts.global_batch // parts.comm.size)
    return LOOK_FACTOR * min(own, parts.config.micro_batch or own)


def evaluate(parts, clock):
    """What the network does on the test split, over all ranks' parts of it. All ranks must call.

    clock: record.clock.Stopwatch. Returns a dict: test_loss; accuracy and worst_class, the least accuracy of
    a class that has test rows, None without classes.
    """
    with clock("evaluate"):
        faults.point("before_evaluate")
        comm, test = parts.comm, parts.dataset.test
        seen, losses = parts.network.infer(test, np.asarray(parts.test_rows), look_batch(parts))
        loss, count = comm.sum(np.array([losses.sum(dtype=np.float64), len(losses)], np.float64))
        if not (classes := parts.network.classes):
            return {"test_loss": float(loss / count), "accuracy": None, "worst_class": None}
        labels = test.labels_of(parts.test_rows)
        counted = [np.bincount(labels[seen["correct"]], minlength=classes),
                   np.bincount(labels, minlength=classes)]
        right, rows = comm.sum(np.array(counted))
        worst = (right / np.maximum(rows, 1))[rows > 0].min()
        return {"test_loss": float(loss / count), "accuracy": float(right.sum() / count),
                "worst_class": float(worst)}


def check_weights(parts, where, settled=False):
    """Stop all ranks before weights that are not finite, or not the same on all ranks, become a checkpoint.
    where: for the message. settled: whether the exchange has made them equal, if its steps do not."""
    network, comm = parts.network, parts.comm
    if comm.max(int(not network.is_finite())):
        raise on_all(f"train: the weights are not finite {where}: the network has diverged; "
                     "lower optim.lr or lengthen schedule.warmup_epochs")
    if comm.size == 1 or not (settled or parts.updates.exchange.equal_after_step):
        return
    digests = [part.tobytes().hex()
               for part in comm.allgather(np.frombuffer(bytes.fromhex(network.parameter_digest()), np.uint8))]
    if len(set(digests)) > 1:
        raise BrokenInvariant(f"train: the ranks hold different weights {where}; "
                              f"{by_value(dict(enumerate(digests)))}; a rank has computed wrongly, "
                              "or its memory is damaged")
