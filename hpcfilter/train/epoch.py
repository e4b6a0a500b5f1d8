"""One epoch: select, train on what is kept, take the observations home, look at what was
hidden, evaluate, save."""

from hpcfilter.base.alive import faults
from hpcfilter.data import read_batches
from hpcfilter.select.histogram import histogram
from hpcfilter.select.order import check_steps
from hpcfilter.train.evaluate import check_weights, evaluate, look_batch
from hpcfilter.train.phases import begin_phase, weights_began
from hpcfilter.train.step import train_step


def run_epoch(parts, progress, folder):
    """Train the epoch of `progress`, or the rest of it, and go on to the next. All ranks must call.

    Returns whether the ranks stay; if not, they were told to leave, and everything is saved.
    """
    progress.begin(parts.network.names)
    selection = select(parts, progress)  # who trains, at which weight
    plan = order(parts, progress, selection)  # in which batches; equal steps on all ranks
    begin(parts, progress)  # perhaps a new phase
    for batch, rows in read(parts, progress, plan):  # read ahead
        progress.rate = rate(parts, progress, selection, plan)
        train_step(parts, progress, batch, rows)  # pass, exchange, update, observe
        if (told := parts.boundary.reached()) and not folder.save(parts, progress, told):
            return False  # told to leave: all is saved
    seen = settle(parts, progress)  # equal weights everywhere, whatever the exchange
    take_home(parts, progress, selection, plan, seen)  # observations go to their owners
    look_at_hidden(parts, progress, selection)  # the policy's refresh
    return folder.finish_epoch(parts, progress, selection, plan, seen, evaluate(parts, progress.clock))


def select(parts, progress):
    """The selection of the epoch; that of a checkpoint stays."""
    before = parts.comm.sent
    with progress.clock("select"):
        faults.point("before_select")
        selection = progress.selection = progress.selection or parts.selector.select(progress.epoch)
    progress.notes["sent"] = parts.comm.sent - before
    return selection


def order(parts, progress, selection):
    """The Plan of the epoch, and what its rows say of the scores as they are now."""
    before = parts.comm.sent
    with progress.clock("rebalance"):
        batch = parts.updates.batch(progress.epoch - weights_began(parts.config, progress.epoch))
        plan = parts.plan(selection, parts.selector.shards, parts.comm, parts.config.seed,
                          progress.epoch, batch)
        check_steps(plan, parts.comm)
        faults.point("after_select")
    progress.notes["sent"] += parts.comm.sent - before
    with progress.clock("select"):
        progress.notes["spread"] = histogram(parts.selector.scores.importance, ~selection.keep, parts.comm)
    return plan


def begin(parts, progress):
    """Before the first step of an epoch: a new phase, and passes without a past."""
    if progress.step == 0:
        begin_phase(parts, progress)
        parts.updates.passes.begin_epoch()


def read(parts, progress, plan):
    """The batches that are left of the epoch. Yields (batch, its rows). What is done with
    them counts as training."""
    parts.laps.reset()
    with progress.clock("train"):
        batches = plan.batches(progress.step)
        for batch, *rows in read_batches(parts.rows, batches, parts.augment, parts.config.seed,
                                         progress.epoch, parts.network.copies):
            yield batch, rows
            if parts.meter:
                parts.meter.watch()
            parts.laps.start()


def rate(parts, progress, selection, plan):
    """The learning rate of the next step."""
    began = weights_began(parts.config, progress.epoch)
    done = progress.epoch - began + progress.step / plan.steps
    return parts.updates.rate(selection.lr_scale, done, parts.config.train.epochs - began)


def settle(parts, progress):
    """All ranks hold equal weights and buffers from here on. Returns what this rank has seen in
    the epoch, as Seen.rows."""
    with progress.clock("score"):
        faults.point("before_score")
        seen = progress.seen.rows()
        own = len(seen["index"])
        parts.updates.exchange.settle(parts.network.model, own / int(parts.comm.sum(own)))
    return seen


def take_home(parts, progress, selection, plan, seen):
    """The observations of the epoch go to the owners of the samples, unless the scores are
    to stay as they are."""
    before = parts.comm.sent
    with progress.clock("score"):
        parts.selector.take(selection, seen, plan.steps)
    progress.notes["observed"] = parts.comm.sent - before


def look_at_hidden(parts, progress, selection):
    """A forward pass over the hidden samples that the selection names; then the weights are checked."""
    selector, network = parts.selector, parts.network
    with progress.clock("score"):
        hidden = selector.hidden(selection)
        selector.refresh(hidden, network.infer(parts.rows, hidden, look_batch(parts))[0])
        progress.notes["refreshed"] = len(hidden)
        check_weights(parts, f"after epoch {progress.epoch}", settled=True)
        faults.point("after_score")
