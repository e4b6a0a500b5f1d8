"""What a person is told of an epoch of a script that is over: what did not come, what is not finite,
what was not looked at."""

import warnings

import numpy as np

from hpcfilter.base.errors import on_all


class Told:
    """Warnings, each kind once, from rank 0. Its checks are for all ranks."""

    def __init__(self, comm):
        self._comm, self._kinds = comm, set()

    def check_whole(self, epoch, walk, came, missing, wanted=False):
        """Warn when samples of the epoch did not come to `loss`, refuse it when many did not.

        walk: Walk, with the hand of the epoch. came, missing: samples of this rank. wanted: whether it has
        drawn some that had to come.
        """
        hand = walk.hand
        counts = self._comm.sum(np.array([came, missing, len(hand.index), wanted], np.int64))
        came, missing, dealt, wanted = (int(number) for number in counts)
        problem, fatal = walk.problem(came, missing, dealt + hand.first - hand.stand_ins, wanted)
        if fatal:
            raise on_all(f"Filter: epoch {epoch} is over, and {problem}")
        self._warn(epoch, "left out", problem, problem)

    def check_losses(self, epoch, values, wanted, looked):
        """Warn of values that are not finite and of hidden samples that nobody looked at; refuse an epoch of
        which no value is finite.

        values: float32 (m,), of the samples that this rank has trained. wanted, looked: hidden
        samples of this rank, int.
        """
        counts = np.array([len(values), np.count_nonzero(~np.isfinite(values)), wanted, looked], np.int64)
        seen, bad, wanted, looked = (int(count) for count in self._comm.sum(counts))
        if seen and seen == bad:
            raise on_all(f"Filter: epoch {epoch}: not one of {seen} losses is finite: "
                         "the network has diverged")
        self._warn(epoch, "bad", bad, f"{bad} of {seen} losses are not finite; their samples are kept")
        self._warn(epoch, "hidden", wanted and not looked,
                   f"the policy wants a forward pass over {wanted} hidden samples (`hidden`, `observe`); "
                   'without it their scores stay as they are (refresh="none" says so)')

    def _warn(self, epoch, kind, condition, message):
        if condition and kind not in self._kinds and self._comm.rank == 0:
            warnings.warn(f"hpcfilter: epoch {epoch}: {message}", RuntimeWarning, stacklevel=5)
            self._kinds.add(kind)
