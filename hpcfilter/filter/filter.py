"""A sampler for the epoch that trains what a policy keeps, and takes home what training shows of each sample.

    sampler = hpcfilter.Filter(len(dataset), "infobatch", epochs=90)              # in the place of the DistributedSampler
    loader = DataLoader(sampler.indexed(dataset), batch_size=128, sampler=sampler)
    for epoch in range(90):
        sampler.set_epoch(epoch)
        for index, (x, y) in loader:
            output = model(x)
            loss = sampler.loss(cross_entropy(output, y, reduction="none"), index, output, y)
"""

import json
import warnings

import numpy as np
import torch

from hpcfilter.comm import surroundings
from hpcfilter.config import choose
from hpcfilter.data import edges, read_given, shard
from hpcfilter.errors import InputError, on_all
from hpcfilter.filter import state as states
from hpcfilter.filter.deal import DEALS
from hpcfilter.filter.seen import Seen, indices
from hpcfilter.policies import find_policy, given_file, policy_function
from hpcfilter.sampler import deliver
from hpcfilter.scores import Scores, make_score


class Filter:
    """The sampler of one rank.

    num_samples: of the data set, N. policy, parameters: as in the table [filter]. comm: default the ranks of torch.distributed if it is initialised,
    else those of the MPI launch. epochs: of the whole training, for the policies that have a schedule. order: "global" (every rank can read every
    sample) or "shard" (a rank trains only the block of indices that it owns). score: name, or dict with a name and the score's parameters.
    labels: class of every sample, (N,), for per_class, class_floor and the noise guard. given: what a policy reads from a file, name -> (N,) array.

    All ranks must make one, with equal arguments, and must call `set_epoch`, `state_dict` and `load_state_dict` together; nothing else communicates.
    Raises InputError for bad arguments.
    """

    def __init__(self, num_samples, policy="kakurenbo", *, comm=None, seed=0, epochs=None, order="global", score="auto", labels=None, given=None,
                 **parameters):
        self.comm = comm = comm or surroundings()
        with comm.together():
            function = find_policy(policy)
            self._policy, bound = policy_function(policy, parameters, True, labels is not None, "none (give labels=...)",
                                                  **({} if epochs is None else {"epochs": epochs}))
            self._deal = choose(DEALS, order, "order")
            score = {"name": score} if isinstance(score, str) else dict(score)
            score = make_score(score.pop("name", "auto"), score, True, "none", getattr(function, "score", "loss"))
            if score.needs_features or score.needs_passes:
                raise InputError(f"score.name: {score.name} needs more than losses and logits; use `hpcfilter score`")
            if num_samples < comm.size:
                raise InputError(f"Filter: got {num_samples} samples on {comm.size} ranks, expected at least one for each")
            owned = shard(num_samples, comm.rank, comm.size)
            rows = {"labels": labels, **(given or {})} if labels is not None else dict(given or {})
            for name, array in rows.items():
                if len(array) != num_samples:
                    raise InputError(f"Filter: {name}: got {len(array)} rows, expected {num_samples}")
            rows = {name: np.asarray(array[owned.start : owned.stop]) for name, array in rows.items()}
            labels = rows.pop("labels").astype(np.int64) if "labels" in rows else None
            if labels is not None and labels.min() < 0:
                raise InputError(f"Filter: labels: got {labels.min()}, expected 0 or more")
            path, columns = given_file(policy, bound, instead=rows)
            if path is not None:
                rows = read_given(path, columns, owned, num_samples)
        classes = 0 if labels is None else int(comm.max(labels.max())) + 1
        self.scores = Scores(owned, num_samples, score, labels, classes, rows)
        self.shards, self.seed, self.epoch = edges(num_samples, comm.size), int(seed), 0
        self._needs_classes = score.needs_classes or getattr(function, "needs_classes", False)
        parameters = json.dumps({**bound, **self._policy.keywords}, default=str, sort_keys=True)
        self._identity = {"samples": num_samples, "policy": policy, "parameters": parameters, "score": score.name, "seed": self.seed, "order": order}
        self.selection = self._hand = None  # of this epoch; not made yet
        self._cursor = 0  # how many of this rank's hand are trained
        self._trained, self._looked = Seen(score.needs_batches), Seen()
        self._warned = False

    # The sampler

    def set_epoch(self, epoch):
        """Begin an epoch: observations go home, the policy selects, the kept samples are dealt to the ranks. All ranks must call.

        Does nothing in an epoch that has only just begun, or been resumed. Raises InputError when the policy keeps nothing or the network has
        diverged.
        """
        if self._hand is not None and epoch == self.epoch and self._cursor == 0:
            return
        if self._hand is not None:
            self._go_home()
        self.epoch = int(epoch)
        self._select(consumed=0)

    def __iter__(self):
        """The indices that this rank trains, in order; as many on every rank."""
        if self._hand is None:
            self.set_epoch(self.epoch)
        if self._cursor:
            raise InputError(f"Filter: epoch {self.epoch} is under way or over; call set_epoch({self.epoch + 1}) before the next one")
        return map(int, self._hand.index)

    def __len__(self):
        if self._hand is None:
            self.set_epoch(self.epoch)
        return len(self._hand.index)

    def indexed(self, dataset):
        """The data set with each sample's index before it: item i is (i, dataset[i])."""
        if len(dataset) != self.scores.total:
            raise InputError(f"Filter: got a data set of {len(dataset)} samples, expected {self.scores.total}")
        return Indexed(dataset)

    # What training shows

    def loss(self, losses, index, output=None, target=None):
        """The loss to go backward from: the weighted mean over the batch, for gradients that are averaged over the ranks.

        losses: tensor (b,), one per sample. index: integer tensor (b,) as the loader gave it: batches come in the sampler's order, and some may be
        left out. output, target: logits (b, C) and labels (b,), for policies and scores that need them. Returns a scalar tensor; the mean over the
        ranks is sum of weight * loss over the global batch / number of its samples. Communicates nothing. Raises InputError for an index outside
        the data set, or not of the sampler's order.
        """
        hand, index = self._hand, indices(index, self.scores.total)
        if losses.shape != index.shape:
            raise InputError(f"Filter: losses: got shape {tuple(losses.shape)}, expected one per index, {index.shape}")
        here = self._locate(index)
        self._trained.add(index, hand.real[here], self._look(losses, output, target))
        self._cursor = here.stop
        weight = torch.from_numpy(hand.weight[here]).to(losses.device)
        if here.stop < len(hand.index) or not hand.stand_ins:
            return (losses * weight).mean()
        rows = self.comm.size * len(index)  # of the last global batch, whose stand-ins weigh nothing and do not count
        return (losses * weight).sum() * (self.comm.size / (rows - hand.stand_ins))

    @property
    def hidden(self):
        """Own samples whose score wants a forward pass at the end of this epoch: int64 (m,), a sampler for a loader of `indexed`."""
        refresh = self.selection.refresh & (not self.selection.frozen) & (not self.scores.score.needs_batches)
        return np.asarray(self.scores.owned)[refresh]

    def observe(self, losses, index, output=None, target=None):
        """Take over a forward pass (eval mode, no gradients) over samples of `hidden`. Arguments as of `loss`."""
        index, owned = indices(index, self.scores.total), self.scores.owned
        if outside := [i for i in index.tolist() if i not in owned]:
            raise InputError(f"Filter: observe: got index {outside[0]}, expected one of {owned.start} to {owned.stop - 1}, which this rank owns")
        self._looked.add(index, np.ones(len(index), bool), self._look(losses, output, target))

    # What the selection says

    @property
    def lr_scale(self):
        """The factor that the policy puts on the learning rate in this epoch."""
        return self.selection.lr_scale

    @property
    def begins_anew(self):
        """Whether the network and the learning-rate schedule are to begin anew in this epoch (FORGET, CCS, Dyn-Unc)."""
        return self.epoch > 0 and self.epoch == self.selection.began

    @property
    def first_epoch(self):
        """The epoch to go on with after `load_state_dict`: this one if samples of it are left, else the next."""
        return self.epoch if self._hand is None or len(self._hand.index) > self._cursor else self.epoch + 1

    # Stopping and going on

    def state_dict(self):
        """Everything that the future depends on, at any moment between two batches. All ranks must call; rank 0 gets the whole, the others an empty
        dict.

        Values are numbers, strings and tensors, some (N,) long: torch.save writes it, torch.load reads it with weights_only=True.
        """
        consumed = self._hand.consumed(self._cursor, self.comm.size) if self._hand else 0
        columns = {f"scores.{name}": array for name, array in self.scores.columns().items()}
        for kind, seen in (("trained", self._trained), ("looked", self._looked)):
            index, rows = seen.settle(self.comm)
            columns |= {f"{kind}.index": index, **{f"{kind}.{name}": array for name, array in rows.items()}}
        whole = states.gather(columns, self.comm)
        plain = {**self._identity, "epoch": self.epoch, "begun": self._hand is not None, "consumed": consumed, "ranks": self.comm.size}
        return {**plain, **whole} if self.comm.rank == 0 else {}

    def load_state_dict(self, state):
        """Go on where `state_dict` was taken, on any number of ranks ("shard", once an epoch has begun: on as many). All ranks must call.

        state: rank 0's counts. Raises InputError on all ranks for the state of another policy, data set, seed, score or order.
        """
        names = [f"scores.{name}" for name in self.scores.columns()]
        plain = self.comm.on_first(lambda: states.check(state, self._identity, names, self.comm.size))
        blocks = states.scatter(state, self.comm)
        self.scores.restore({name.removeprefix("scores."): blocks.pop(name) for name in names})
        trained, looked = ({name.removeprefix(kind): array for name, array in blocks.items() if name.startswith(kind)}
                           for kind in ("trained.", "looked."))
        self._trained.restore(trained.pop("index"), trained)
        self._looked.restore(*deliver(looked.pop("index"), looked, self.shards, self.comm))
        self.epoch, self._hand = plain["epoch"], None
        if plain["begun"]:
            self._select(plain["consumed"])

    # Inside

    def _select(self, consumed):
        self.selection = self._policy(self.scores, self.epoch, self.seed, self.comm)
        self._hand = self._deal(self.selection, self.scores, self.shards, self.comm, self.seed, self.epoch, consumed)
        self._cursor = 0

    def _locate(self, index):
        """Where in this rank's hand a batch stands: a slice at or after the cursor."""
        if self._hand is None:
            raise InputError("Filter: loss before the first epoch; iterate over a loader with this sampler")
        ahead = self._hand.index[self._cursor :]
        starts = [0] if len(index) == 0 else np.flatnonzero(ahead == index[0])
        for start in starts:
            if np.array_equal(ahead[start : start + len(index)], index):
                return slice(self._cursor + int(start), self._cursor + int(start) + len(index))
        raise InputError(f"Filter: index: got a batch that begins with {index[:3].tolist()}, expected {ahead[:3].tolist()} or what comes later "
                         f"in epoch {self.epoch}: batches must come in the sampler's order, each once")

    def _look(self, losses, output, target):
        classes = output is not None and target is not None
        if self._needs_classes and not classes:
            raise InputError(f"Filter: {self._identity['policy']} with the score {self.scores.score.name} needs logits and labels: "
                             "loss(losses, index, output, target)")
        return self.scores.score.observe(output if classes else losses, target, losses, None, classes)

    def _go_home(self):
        """The observations of the epoch go to the owners of the samples."""
        index, columns = self._trained.settle(self.comm)
        total, bad = (int(count) for count in self.comm.sum(np.array([len(index), np.count_nonzero(~np.isfinite(columns["value"]))], np.int64)))
        if total and total == bad:
            raise on_all(f"Filter: epoch {self.epoch}: not one of {total} losses is finite: the network has diverged")
        if bad and not self._warned and self.comm.rank == 0:
            message = f"hpcfilter: epoch {self.epoch}: {bad} of {total} losses are not finite; their samples are kept"
            warnings.warn(message, RuntimeWarning, stacklevel=3)
        self._warned |= bad > 0
        if not self.selection.frozen:
            self.scores.observe(*deliver(index, columns, self.shards, self.comm))
            self.scores.observe(*self._looked.settle(self.comm))
        if self.selection.streak is not None:
            self.scores.streak = self.selection.streak
        self._trained.clear()
        self._looked.clear()


class Indexed:
    """A data set whose item i is (i, dataset[i])."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return index, self.dataset[index]
