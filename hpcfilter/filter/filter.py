"""A sampler for the epoch that trains what a policy keeps, and takes home what training shows of each sample.

    sampler = hpcfilter.Filter(len(dataset), "infobatch", epochs=90)  # in the place of the DistributedSampler
    loader = DataLoader(sampler.indexed(dataset), batch_size=128, sampler=sampler)
    for epoch in range(90):
        sampler.set_epoch(epoch)
        for index, (x, y) in loader:
            output = model(x)
            loss = sampler.loss(cross_entropy(output, y, reduction="none"), index, output, y)

What a policy asks for beyond that: `lr_scale` times the scheduled learning rate, `begins_anew`, and a
forward pass over `hidden`.
"""

import weakref

import numpy as np

from hpcfilter.base.errors import InputError, on_all
from hpcfilter.base.shard import shard
from hpcfilter.comm import surroundings
from hpcfilter.filter import arguments
from hpcfilter.filter import state as states
from hpcfilter.filter.deal import Hand
from hpcfilter.filter.indexed import Indexed
from hpcfilter.filter.observed import Observed
from hpcfilter.filter.shown import indices, shown
from hpcfilter.filter.told import Told
from hpcfilter.filter.walk import Walk, say_unfinished
from hpcfilter.select.order import table_digest
from hpcfilter.select.policies import facts_of, find_policy
from hpcfilter.select.scores import Scores
from hpcfilter.select.selector import Selector


class Filter:
    """The sampler of one rank.

    num_samples: of the whole data set, N. policy, parameters: as in the table [filter]. comm: default the
    ranks of torch.distributed if it is initialised, else those of the MPI launch. epochs: of the whole
    training, for the policies that have a schedule. order: "global" (every rank can read every sample) or
    "shard" (a rank trains only the block of indices that it owns). score: name, or dict with a name and the
    score's parameters. after: epochs in which all samples train and are only looked at; the policy begins
    then, and counts its epochs from there. labels: class of every sample, int (N,), for per_class,
    class_floor and the noise guard. given: what a policy reads from a file, name -> (N,) array.
    partial: whether batches may be left out and epochs end early; else a batch that is left out is refused at
    once, and an epoch of which more than a tenth did not come when it is over.

    Numbers of the epoch: `epoch`; `kept`, the samples that all ranks train, and `kept_share` of N; `len`,
    those of this rank. They change with it.

    Collective, so that all ranks must call them, in the same order: the constructor, with equal arguments,
    `set_epoch`, `state_dict` and `load_state_dict`. Nothing else communicates. Make it after hvd.init() or
    init_process_group(), and start Horovod scripts with `python -m mpi4py`, which ends all ranks when one
    fails. Raises InputError for bad arguments.
    """

    def __init__(self, num_samples, policy="infobatch", *, comm=None, seed=0, epochs=None, order="global",
                 score="auto", labels=None, given=None, partial=False, after=0, **parameters):
        self.comm = comm = comm or surroundings()
        self._told = Told(comm)
        with comm.together():
            total = arguments.count(num_samples, comm)
            self._after = arguments.whole_epoch(after, "after")
            stretches, score, self._deal, (path, columns) = arguments.choices(
                policy, parameters, self._after, order, score, epochs, labels is not None, given or ())
            owned = shard(total, comm.rank, comm.size)
            whole = arguments.checksums(labels, given)
            labels = None if labels is None else arguments.own_labels(labels, owned, total)
            given = arguments.given_columns(given or {}, path, columns, policy, owned, total, comm)
        self._facts = facts_of(find_policy(policy))
        self._anew = self._facts.anew and self._facts.once(stretches[-1].parameters)
        self._identity = {"samples": total, "policy": policy,
                          "parameters": arguments.fixed(stretches[-1], self._facts),
                          "score": score.identity(), "seed": int(seed), "order": order, "after": self._after}
        self._epochs, self._training = stretches[-1].parameters.get("epochs"), epochs
        states.check_equal({**self._identity, "epochs": self._epochs, "given": sorted(given),
                            "partial": bool(partial), **whole}, comm)
        classes = 0 if labels is None else int(comm.max(labels.max())) + 1
        self._identity["given"] = table_digest({**given, **({} if labels is None else {"labels": labels})},
                                               owned, comm)
        self.scores = Scores(owned, total, score, labels, classes, given)
        self._selector, self._order = Selector(stretches, self.scores, int(seed), comm), order
        self._learns = arguments.learns(policy, stretches[-1].parameters, given)  # from the losses that come
        self._needs_classes = score.needs_classes or self._facts.needs_classes
        self._observed = Observed(("value", *(("confidence", "correct") if self._needs_classes else ())))
        self._walk = Walk(total, bool(partial))
        self.epoch, self._over = 0, None  # an epoch that was over when its state was taken
        self._select(consumed=0)
        weakref.finalize(self, say_unfinished, self._walk, comm.rank)

    def set_epoch(self, epoch):
        """Begin an epoch: observations go home, the policy selects, the kept samples are dealt to the
        ranks. All ranks must call.

        Does nothing in an epoch that has only just begun, or been resumed. Raises InputError for an epoch
        that is under way, or not the same on all ranks, when the policy keeps nothing, when too little of the
        last epoch came to `loss`, or when the network has diverged.
        """
        epoch = arguments.whole_epoch(epoch)
        begun, drawn, last, first = self.comm.max(np.array([self._walk.cursor, self._drawn
                                                            or self._hand.first, epoch, -epoch], np.int64))
        if last != -first:
            raise on_all(f"Filter: set_epoch: got epochs from {-first} to {last}, expected the same on "
                         "all ranks")
        if (epoch == self.epoch and begun) or epoch == self._over:
            raise on_all(f"Filter: set_epoch({epoch}): that epoch is under way or over, expected another one")
        if epoch == self.epoch:
            return
        if begun or drawn:
            self._go_home()
        self.epoch = int(epoch)
        self._select(consumed=0)

    def __iter__(self):
        """The indices that this rank trains, in order; as many on every rank. They may be drawn any number of
        times before the first batch is trained.
        """
        if self._walk.cursor:
            raise InputError(f"Filter: epoch {self.epoch} is under way or over; "
                             f"call set_epoch({self.epoch + 1}) before the next one")
        self._drawn = True
        return map(int, self._hand.index)

    def __len__(self):
        """Samples that this rank trains in this epoch, or in what was left of it when a state was loaded;
        as many on every rank."""
        return len(self._hand.index)

    def indexed(self, dataset):
        """The data set with each sample's index before it: item i is (i, sample i).

        dataset: N samples, or in "shard" order only those that this rank owns. A collate_fn of your own then
        gets pairs (index, sample).
        """
        owned, total = self.scores.owned, self.scores.total
        if len(dataset) == total:
            return Indexed(dataset, 0)
        if self._order == "shard" and len(dataset) == len(owned):
            return Indexed(dataset, owned.start)
        own = f", or {len(owned)}, those that this rank owns" if self._order == "shard" else ""
        raise InputError(f"Filter: got a data set of {len(dataset)} samples, expected {total}{own}")

    # What training shows

    def loss(self, losses, index, output=None, target=None):
        """The loss to go backward from: the weighted mean over the batch, for gradients that are
        averaged over the ranks.

        losses: tensor (b,), one per sample. index: integers (b,) as the loader gave them, on any
        device: batches come in the sampler's order, without gaps unless the filter is `partial`. On a
        GPU only the first of an epoch are read at once, the others before what was seen is used.
        output, target: logits (b, C) and labels (b,), read only if the policy or the score needs them.
        Returns a scalar tensor; its mean over the ranks is the sum of weight * loss over the global
        batch / number of its samples. Communicates nothing. Raises InputError for an index outside the
        data set, or not of the sampler's order.
        """
        hand, walk = self._hand, self._walk
        index = walk.received(index)
        if losses.shape != index.shape:
            raise InputError(f"Filter: losses: got shape {tuple(losses.shape)}, expected one per index, "
                             f"{tuple(index.shape)}")
        here = walk.place(index)
        self._observed.train(hand.index[here], self._look(losses, output, target), hand.real[here])
        walk.go_on(here, index)
        weight = walk.weight(here, losses.device)
        if here.stop < len(hand.index) or not hand.stand_ins:
            return (losses * weight).mean()
        # of the last global batch, whose stand-ins weigh nothing and do not count
        rows = self.comm.size * len(index)
        return (losses * weight).sum() * (self.comm.size / (rows - hand.stand_ins))

    @property
    def hidden(self):
        """Own samples whose score wants a forward pass at the end of this epoch: int64 (m,), a sampler
        for a loader of `indexed`.

        Each rank has another number of them, perhaps none: go forward with the bare network (`model.module`
        of DistributedDataParallel, whose wrapper communicates), in eval mode without gradients, and hand
        what comes out to `observe`.
        """
        return self._selector.hidden(self.selection)

    def observe(self, losses, index, output=None, target=None):
        """Take over a forward pass over samples of `hidden`. Arguments as of `loss`. Raises
        InputError for other samples."""
        index, owned = indices(index, self.scores.total), self.scores.owned
        own = index[(index >= owned.start) & (index < owned.stop)]
        if len(own) < len(index) or not self._selector.wanted(self.selection)[own - owned.start].all():
            raise InputError(f"Filter: observe: got indices from {index.min()} to {index.max()}, "
                             "expected those of `hidden` on this rank alone")
        self._observed.refresh(index, self._look(losses, output, target))

    # What the selection says

    @property
    def kept_share(self):
        """kept / N of this epoch."""
        return self.kept / self.scores.total

    @property
    def lr_scale(self):
        """The factor that the policy puts on the learning rate in this epoch: set rate = scheduled rate *
        lr_scale, never rate *= lr_scale."""
        return self.selection.lr_scale

    @property
    def begins_anew(self):
        """Whether the network and the learning-rate schedule are to begin anew now, at the beginning of this
        epoch (FORGET, CCS, Dyn-Unc)."""
        return (self._anew and 0 < self.epoch == self._after and self._hand.first == 0
                and self._walk.cursor == 0)

    @property
    def first_epoch(self):
        """The epoch to go on with after `load_state_dict`: this one if samples of it are
        left, else the next."""
        return self.epoch if len(self._hand.index) > self._walk.cursor else self.epoch + 1

    # Stopping and going on

    def state_dict(self, epoch_over=False):
        """Everything that the future depends on, at any moment between two batches. All ranks must call; rank
        0 gets the whole, the others an empty dict.

        epoch_over: whether the epoch ends here although samples of it are left (drop_last, a break).
        Values are numbers, strings and tensors, some (N,) long: torch.save writes it, torch.load reads
        it with weights_only=True.
        """
        cursor = self._walk.cursor
        over = epoch_over or cursor == len(self._hand.index)
        with self.comm.together():
            self._walk.read()
        columns = {f"scores.{name}": array for name, array in self.scores.columns().items()}
        columns |= self._observed.state()
        missing = self._walk.missing if epoch_over and not self._walk.partial else 0
        self._told.check_whole(self.epoch, self._walk, len(columns["trained.index"]), missing)
        whole = states.gather(columns, self.comm)
        self._walk.saved = cursor
        plain = {"epoch": self.epoch, "epochs": self._epochs, "over": over,
                 "consumed": self._hand.consumed(cursor, self.comm.size), "ranks": self.comm.size,
                 "longest": self._walk.longest}
        return {**self._identity, **plain, **whole} if self.comm.rank == 0 else {}

    def load_state_dict(self, state):
        """Go on where `state_dict` was taken, on any number of ranks ("shard", within an epoch: on as
        many). All ranks must call.

        An epoch that was over goes home, and the next one begins; after the last of `epochs` nothing is left,
        and the length is 0. state: rank 0's counts. Raises InputError on all ranks for the state of another
        policy, data set, seed, score or order.
        """
        names = [f"scores.{name}" for name in self.scores.columns()]
        plain, arrays = states.check(state, self._identity, self._epochs, names,
                                     self._observed.columns, self.comm)
        blocks = states.scatter(arrays, self.comm)
        self.scores.restore({name.removeprefix("scores."): blocks.pop(name) for name in names})
        self._observed.restore(blocks, self._selector.shards, self.comm)
        self.epoch, self._over = plain["epoch"], None
        self._select(None if plain["over"] else plain["consumed"])
        self._walk.longest = plain["longest"]
        if plain["over"] and (self._training is None or self.epoch + 1 < self._training):
            self._go_home()
            self.epoch, self._over = self.epoch + 1, self.epoch
            self._select(consumed=0)

    # Inside

    def _select(self, consumed):
        """The selection of this epoch, and this rank's hand: what is left of it when `consumed` samples are
        trained; nothing when None are left."""
        with arguments.in_call_words():
            self.selection = self._selector.select(self.epoch)
        self.kept = int(self.comm.sum(np.count_nonzero(self.selection.keep)))
        if not self.kept and consumed is not None:
            raise on_all("filter: the policy keeps no sample in this epoch")
        self._hand = (Hand.empty() if consumed is None
                      else self._deal(self.selection, self.scores, self._selector.shards, self.comm,
                                      self._selector.seed, self.epoch, consumed))
        self._walk.begin(self._hand, self.epoch)
        self._drawn = False

    def _look(self, losses, output, target):
        return shown(losses, output, target, self.scores.score,
                     self._identity["policy"] if self._needs_classes else None)

    def _go_home(self):
        """The observations of the epoch go to the owners of the samples."""
        with self.comm.together():
            self._walk.read()
        trained, looked = self._observed.trained.rows(), self._observed.looked.rows()
        self._told.check_whole(self.epoch, self._walk, len(trained["index"]), self._walk.missing,
                               self._drawn and self._learns)
        wanted = np.count_nonzero(self._selector.wanted(self.selection))
        self._told.check_losses(self.epoch, trained["value"], wanted, len(looked["index"]))
        self._selector.take(self.selection, trained, int(self.comm.max(self._observed.step)))
        if not self.selection.frozen:
            self._selector.refresh(looked.pop("index"), looked)
        self._observed.clear()
