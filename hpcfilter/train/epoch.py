"""One epoch: select, train on what is kept, take the observations home, refresh, evaluate, save."""

import numpy as np

from hpcfilter.base.alive import faults
from hpcfilter.base.alive.pulse import beat
from hpcfilter.base.errors import on_all
from hpcfilter.data import read_batches
from hpcfilter.record.clock import Laps, Stopwatch
from hpcfilter.select.histogram import histogram
from hpcfilter.select.sampler import batch_means, check_steps, deliver, selection_digest
from hpcfilter.train.checkpoint import UnderWay
from hpcfilter.train.network import Columns, seed_of
from hpcfilter.train.step import step as train_step

LOOK_FACTOR = 4  # a forward pass without gradients takes batches this much larger
PARTS = "input", "forward", "backward", "communication", "optimiser"  # of a step; of the communication, what the backward pass did not hide


def run_epoch(run):
    """Train the epoch `run.work`, or the rest of it, and set `run.work` to the next one. All ranks must call.

    Returns whether the ranks stay; if not, they were told to leave, and everything is saved.
    """
    config, comm, network, work = run.config, run.comm, run.network, run.work
    epoch, first = work.epoch, work.step
    watch = Stopwatch("train", "select", "rebalance", "score", "evaluate", "checkpoint", spent=work.seconds)
    with watch("select"):
        selection, plan, selected = _select(run, work, watch)
        spread = histogram(run.scores.importance, ~selection.keep, comm)
        if run.extrapolation and first == 0:
            run.extrapolation.start()
    with watch("train"):
        seen = Columns(network.classes > 0, work.rows)
        laps = Laps(*PARTS, wait=network.wait if config.train.breakdown else None)
        batches = read_batches(run.rows, plan.batches(first), run.augment, config.seed, epoch)
        for step, (batch, images, labels) in enumerate(batches, first):
            laps("input")
            faults.point("before_step")
            seed = seed_of(config.seed, epoch, f"dropout {step}", comm.rank)
            work.rate = run.rate(selection, epoch - selection.began + step / plan.steps)
            train_step(run, batch, images, labels, work.rate, seed, seen, laps)
            faults.point("after_step")
            beat()
            if run.meter:
                run.meter.watch()
            if what := run.boundary.reached():
                with watch("checkpoint"):
                    run.work = UnderWay(epoch, selection, step + 1, work.rate, watch.so_far(), _rows(plan, first, step + 1, work, seen))
                    run.save(epoch, run.work)
                if what == "leave":
                    return False
            laps.start()
        rows = _rows(plan, first, plan.steps, work, seen)
        losses = rows["loss"]
    with watch("score"):
        refreshed, observed = _score(run, selection, rows, plan)
        digests = {"selection": selection_digest(selection, run.scores.owned, comm), "batches": plan.digest(comm)}
    with watch("evaluate"):
        faults.point("before_evaluate")
        run.test_result = evaluate(run)
    counts = _count(run, kept=selection.keep, moved_back=selection.moved_back, refreshed=refreshed,
                    trained=np.ones(len(losses), bool), nan=~np.isfinite(losses))
    batch = float(plan.totals.mean())  # an epoch is cut into equal steps, of at most the global batch
    row = {"epoch": epoch, **counts, "hidden": run.scores.total - counts["kept"], "steps": plan.steps, "batch": batch,
           "threshold": selection.threshold,
           "train_loss": _mean(comm, losses), **run.test_result, "lr": work.rate, "imbalance": plan.imbalance,
           "passes": run.trained / run.scores.total, "looks": run.looked / run.scores.total, **digests}
    run.last_row = {**row, "seconds": {"total": watch.total(), **watch.seconds}}
    run.work, last, what = UnderWay(epoch + 1), epoch + 1 == config.train.epochs, run.boundary.agree()
    with watch("checkpoint"):
        if what or last or (epoch + 1) % config.checkpoint.every == 0:
            run.save(epoch)
    _report(run, {**row, "seconds": {"total": watch.total(), **watch.seconds}})
    run.record.row("scores", epoch=epoch, threshold=selection.threshold, **spread)
    run.record.row("speed", epoch=epoch, **_speed(run, laps, plan.steps - first, selected, observed))
    if run.noise:
        run.record.row("noise", epoch=epoch, batch=batch, **run.noise.take(comm, batch))
    return what != "leave" or last


def _select(run, work, watch):
    """(selection, plan, bytes that this rank has sent for them) of the epoch. A network that is to begin anew does so."""
    before = run.comm.sent
    faults.point("before_select")
    selection = work.selection = work.selection or run.policy(run.scores, work.epoch, run.config.seed, run.comm)
    with watch("rebalance"):
        plan = run.plan(selection, run.shards, run.comm, run.config.seed, work.epoch, run.batch(selection, work.epoch))
        check_steps(plan, run.comm)
    faults.point("after_select")
    if work.step == 0 and work.epoch and work.epoch == selection.began:
        run.begin_anew(work.epoch)
    return selection, plan, run.comm.sent - before


def _rows(plan, first, last, work, seen):
    """What this rank has trained in the epoch up to step `last`. Returns name -> array (m,): index, step, loss and the other observations.

    first: the step at which this process has begun. work: the epoch as it was then. seen: Columns that go on from work.rows.
    """
    columns, losses = seen.arrays()
    trained = {name: np.concatenate([np.asarray(work.rows.get(name, []), np.int64), array]) for name, array in plan.trained(first, last).items()}
    return {**trained, **columns, "loss": losses}


def _speed(run, laps, steps, selected, observed):
    """What the steps of the epoch took and moved. Seconds are means over ranks and steps, bytes are sums over the ranks. All ranks must call.

    selected, observed: bytes that this rank has sent for the selection and its plan, and to bring observations home.
    """
    comm = run.comm
    halved = 2 if run.config.train.compression == "fp16" else 1
    moved = np.array([run.network.gradient_bytes() // halved * steps, selected, observed], np.float64)
    seconds = comm.sum(np.array(list(laps.seconds.values())))
    moved = dict(zip(("gradients", "selection", "observations"), map(int, comm.sum(moved)), strict=True))
    joules, source = run.joules()
    return {"steps": steps, "parts": {name: float(value) / max(1, comm.size * steps) for name, value in zip(laps.seconds, seconds, strict=True)},
            "bytes": {**moved, "row": run.dataset.train.row_bytes}, "joules": joules, "joules_of": source}


def _score(run, selection, rows, plan):
    """What was seen in training goes to the owners, and the selection's hidden samples get a look. Returns (their mask, bytes sent)."""
    comm, losses, before = run.comm, rows["loss"], run.comm.sent
    faults.point("before_score")
    if run.network.score.needs_batches:
        rows["value"] = batch_means(losses, rows["step"], plan.steps, comm)
    _take_home(run, selection, rows)
    sent = comm.sent - before
    comm.average_buffers(run.network.model, len(losses) / int(comm.sum(len(losses))))
    refreshed = _refresh(run, selection)
    run.check_weights(f"after epoch {run.work.epoch}")
    faults.point("after_score")
    return refreshed, sent


def _take_home(run, selection, rows):
    """The observations of the epoch go to the owners of the samples, unless the scores are to stay as they are."""
    run.scores.advance(selection)
    if not selection.frozen:
        columns = {name: array for name, array in rows.items() if name not in ("index", "step", "loss")}
        run.scores.observe(*deliver(rows["index"], columns, run.shards, run.comm))


def _refresh(run, selection):
    """A forward pass over the hidden samples that the selection names. Returns their mask."""
    refresh = selection.refresh & (not selection.frozen) & (not run.network.score.needs_batches)  # a batch loss comes from training alone
    hidden = np.asarray(run.scores.owned)[refresh]
    run.scores.observe(hidden, run.network.look(run.rows, hidden, _look_batch(run))[0])
    return refresh


def evaluate(run):
    """What the network does on the test split, over all ranks' parts of it. All ranks must call.

    Returns a dict: test_loss; accuracy and worst_class, the least accuracy of a class that has test rows, None without classes.
    """
    seen, losses = run.network.look(run.dataset.test, np.asarray(run.test_rows), _look_batch(run))
    loss, count = run.comm.sum(np.array([losses.sum(dtype=np.float64), len(losses)], np.float64))
    if not (classes := run.network.classes):
        return {"test_loss": float(loss / count), "accuracy": None, "worst_class": None}
    labels = np.asarray(run.dataset.test.labels[run.test_rows.start : run.test_rows.stop], np.int64)
    right, rows = run.comm.sum(np.array([np.bincount(labels[seen["correct"]], minlength=classes), np.bincount(labels, minlength=classes)]))
    worst = (right / np.maximum(rows, 1))[rows > 0].min()
    return {"test_loss": float(loss / count), "accuracy": float(right.sum() / count), "worst_class": float(worst)}


def _look_batch(run):
    own = -(-run.global_batch // run.comm.size)
    return LOOK_FACTOR * min(own, run.config.train.micro_batch or own)


def _count(run, **masks):
    """Count truth values over all ranks; keep the running totals. masks: name -> bool array. Returns name -> int."""
    totals = run.comm.sum(np.array([np.count_nonzero(mask) for mask in masks.values()], np.int64))
    counts = dict(zip(masks, map(int, totals), strict=True))
    trained = counts.pop("trained")
    run.trained += trained
    if trained and counts["nan"] == trained:
        raise on_all(f"train: not one of {trained} losses is finite: the network has diverged; lower train.lr or lengthen train.warmup_epochs")
    run.looked += counts["refreshed"]
    return counts


def _report(run, row):
    """The epoch's row, and its line on the console."""
    run.record.row("epoch", **row)
    if row["nan"] and not run.warned:
        run.record.warn(f"epoch {row['epoch']}: {row['nan']} losses are not finite; their samples are kept (counted in every row)")
        run.warned = True
    score = f"test loss {row['test_loss']:.4f}" if row["accuracy"] is None else f"accuracy {100 * row['accuracy']:.2f} %"
    run.record.say(f"epoch {row['epoch']:3d}  loss {row['train_loss']:.4f}  {score}  hidden {100 * row['hidden'] / run.scores.total:.1f} %  "
                   f"moved back {row['moved_back']}  lr {row['lr']:.4g}  {row['seconds']['total']:.1f} s")


def _mean(comm, losses):
    total, count = comm.sum(np.array([losses.sum(dtype=np.float64), len(losses)], np.float64))
    return float(total / count) if count else None
