"""How far a rank has come in its hand, and what it does not accept on the way.

Batches come in the sampler's order, each once and without a gap: a loader that is sharded a second time, or
reordered, shows itself in the first or second batch. An index on a GPU is read at once in these only, since
to read it is to wait for the device. Later ones are taken for what must come next, and read all together
before anything that was seen is used.
"""

import sys

import numpy as np
import torch

from hpcfilter.base.errors import InputError
from hpcfilter.filter.shown import indices

EARLY = 2  # batches of an epoch whose index is read at once, wherever it lies
OUT_OF_ORDER = ("usual causes: the loader is sharded a second time (Lightning: "
                "Trainer(use_distributed_sampler=False); Accelerate: keep the loader out of prepare(); "
                "HF Trainer: override get_train_dataloader) or reordered (shuffle=True, batch_sampler=), "
                "or a trainer that resumes has skipped batches (HF Trainer: ignore_data_skip=True)")
ENDED_EARLY = ("usual cause: a trainer that counts the batches once, while an epoch's length changes "
               "(Lightning: reload_dataloaders_every_n_epochs=1, and set_epoch in train_dataloader); "
               "if epochs are to end early, say partial=True")
MOST_MISSING = 0.1  # of an epoch's samples: with more, it is refused


class Walk:
    """One rank's way through the epochs. total: samples of the data set. partial: whether
    batches may be left out."""

    def __init__(self, total, partial):
        # silent: epochs in a row of which no batch came
        self._total, self.partial, self.silent = total, partial, 0

    def begin(self, hand, epoch):
        """A new hand is dealt."""
        self.hand, self.epoch = hand, epoch
        # how far in the hand, how many of it were left out, the longest batch so far
        self.cursor, self.skipped, self.longest = 0, 0, 0
        self.saved = 0  # the cursor that a state was last taken at
        self._batches, self._unread, self._weights = 0, [], {}

    def received(self, index):
        """The index of a batch as int64 (b,), or as the tensor that it is where it is to be read later.
        Raises InputError unless it can be one."""
        later = (isinstance(index, torch.Tensor) and not index.is_cpu and self._batches >= EARLY
                 and not self.partial)
        fits = (later and index.ndim == 1 and not index.is_floating_point()
                and self.cursor + len(index) <= len(self.hand.index))
        return index if fits else indices(index, self._total)

    def place(self, index):
        """Where in the hand a batch stands. index: of `received`. Returns a slice at the cursor, or after it
        where batches may be left out."""
        whole, length = self.hand.index, len(index)
        if (isinstance(index, torch.Tensor)
                or np.array_equal(whole[self.cursor : self.cursor + length], index)):
            return slice(self.cursor, self.cursor + length)
        for start in self.cursor + np.flatnonzero(whole[self.cursor :] == index[0]) if self.partial else ():
            if np.array_equal(whole[start : start + length], index):
                return slice(int(start), int(start) + length)
        raise self._out_of_order(index, self.cursor)

    def go_on(self, here, index):
        """A batch is trained. here: of `place`. index: of `received`."""
        if isinstance(index, torch.Tensor):
            self._unread.append((here, index.detach().clone()))  # the loader may use its memory again
        self.skipped += here.start - self.cursor
        self.cursor, self.longest, self._batches = here.stop, max(self.longest, len(index)), self._batches + 1

    def read(self):
        """Read the indices that are still on the GPU. Raises InputError unless they are
        those that had to come."""
        if self._unread:
            places, tensors = zip(*self._unread, strict=True)
            got = torch.cat(tensors).cpu().numpy()
            for here in places:
                batch, got = np.split(got, [here.stop - here.start])
                if not np.array_equal(batch, self.hand.index[here]):
                    raise self._out_of_order(batch, here.start)
        self._unread = []

    def weight(self, here, device):
        """The weights of a batch, float32 (b,) on the device, where those of the whole hand lie
        from the first batch on."""
        if device not in self._weights:
            self._weights[device] = torch.from_numpy(self.hand.weight).to(device)
        return self._weights[device][here]

    @property
    def missing(self):
        """How many of this rank's samples did not come, but for a last batch, which drop_last leaves out."""
        tail = len(self.hand.index) - self.cursor
        return self.skipped + (tail if tail >= max(1, self.longest) else 0)

    def problem(self, came, missing, dealt, wanted):
        """What is wrong with an epoch that is over: (in words or "", whether it must be refused). Numbers
        are samples of all ranks.

        wanted: whether batches were drawn for a policy that learns from their losses. An epoch without a
        single one may be a look at the sampler; two in a row are a script that never calls `loss`.
        """
        self.silent = self.silent + 1 if wanted and not came and not self.partial else 0
        if self.silent:
            return ("no batch came to `loss`; call it in the place of the mean: loss = filter.loss(losses, "
                    "index, output, target)", self.silent > 1)
        if not missing:
            return "", False
        cause = "" if self.partial else f"; {ENDED_EARLY}"
        if came and cause and missing > MOST_MISSING * dealt:
            return f"only {came} of its {dealt} samples came to `loss`{cause}", True
        return f"only {came} samples came to `loss`; the others keep the scores they had{cause}", False

    def _out_of_order(self, index, cursor):
        """The InputError for a batch that should not stand at the cursor."""
        whole, rest = self.hand.index, self.hand.index[cursor:]
        later = np.flatnonzero(rest == index[0])
        if not np.isin(index, whole).all():
            what = "not all of them are this rank's to train"
        elif len(later) and np.array_equal(rest[later[0] : later[0] + len(index)], index):
            what = f"{later[0]} samples were left out before it (partial=True allows that)"
        else:
            what = ("they came already" if np.isin(index, whole[:cursor]).all()
                    else "they are in another order")
        return InputError(f"Filter: index: got a batch that begins with {index[:3].tolist()}, "
                          f"expected {rest[:3].tolist()} as the next of epoch {self.epoch}: {what}; "
                          f"batches must come in the sampler's order, each once; {OUT_OF_ORDER}")


def say_unfinished(walk, rank):
    """At the end of a script: say when it left in the middle of an epoch, which nobody asks
    about any more."""
    failed = getattr(sys, "last_value", None) is not None  # that is said already
    if rank == 0 and walk.cursor > walk.saved and walk.missing and not walk.partial and not failed:
        came = f"{walk.cursor} of the {len(walk.hand.index)} samples of rank 0"
        print(f"hpcfilter: epoch {walk.epoch} ended after {came}; {ENDED_EARLY}", file=sys.stderr)
