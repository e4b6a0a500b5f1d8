"""What the record says of an epoch: the rows of metrics.jsonl, and the line on the console."""

import numpy as np

from hpcfilter.base.errors import on_all


def epoch_row(parts, progress, selection, plan, seen, result):
    """The row of kind "epoch", without its seconds. Keeps the running totals. All ranks must call.

    seen: what this rank has seen, as Seen.rows. result: of the test. Returns a dict.
    """
    comm, selector, losses = parts.comm, parts.selector, seen["loss"]
    total = selector.scores.total
    with progress.clock("score"):
        digests = {"selection": selector.digest(selection), "batches": plan.digest(comm)}
    counts = _counts(comm, kept=np.count_nonzero(selection.keep),
                     moved_back=np.count_nonzero(selection.moved_back), refreshed=progress.notes["refreshed"],
                     trained=len(losses), nan=np.count_nonzero(~np.isfinite(losses)))
    trained = counts.pop("trained")
    progress.trained += trained
    if trained and counts["nan"] == trained:
        raise on_all(f"train: not one of {trained} losses is finite: the network has diverged; "
                     "lower optim.lr or lengthen schedule.warmup_epochs")
    progress.looked += counts["refreshed"]
    batch = float(plan.totals.mean())  # an epoch is cut into equal steps, of at most the global batch
    return {"epoch": progress.epoch, **counts, "hidden": total - counts["kept"], "steps": plan.steps,
            "batch": batch, "threshold": selection.threshold, "train_loss": _mean(comm, losses), **result,
            "lr": progress.rate, "imbalance": plan.imbalance, "passes": progress.trained / total,
            "looks": progress.looked / total, **digests}


def write_rows(parts, progress, selection, plan, row):
    """Write all rows of a finished epoch, and its line on the console. row: of `epoch_row`, with its
    seconds. All ranks must call."""
    record, epoch = parts.record, row["epoch"]
    speed = _speed(parts, progress, plan)
    record.row("epoch", **row)
    if row["nan"]:
        record.warn_once("nan", f"epoch {epoch}: {row['nan']} losses are not finite; "
                         "their samples are kept (counted in every row)")
    record.say(_line(row, parts.selector.scores.total))
    record.row("scores", epoch=epoch, threshold=selection.threshold, **progress.notes["spread"])
    record.row("speed", epoch=epoch, **speed)
    if parts.updates.noise:
        record.row("noise", epoch=epoch, batch=row["batch"],
                   **parts.updates.noise.take(parts.comm, row["batch"]))


def _line(row, total):
    score = (f"test loss {row['test_loss']:.4f}" if row["accuracy"] is None
             else f"accuracy {100 * row['accuracy']:.2f} %")
    return (f"epoch {row['epoch']:3d}  loss {row['train_loss']:.4f}  {score}  hidden "
            f"{100 * row['hidden'] / total:.1f} %  moved back {row['moved_back']}  lr {row['lr']:.4g}  "
            f"{row['seconds']['total']:.1f} s")


def _counts(comm, **own):
    """This rank's counts added up over all ranks. Returns name -> int."""
    return dict(zip(own, map(int, comm.sum(np.array(list(own.values()), np.int64))), strict=True))


def _speed(parts, progress, plan):
    """What the steps of the epoch took and moved. Seconds are means over ranks and steps, bytes are sums over
    the ranks. All ranks must call."""
    comm, notes, seconds = parts.comm, progress.notes, parts.laps.seconds
    steps = plan.steps - notes["first"]
    gradients = parts.updates.exchange.bytes(parts.network.model) * steps
    spent = comm.sum(np.array(list(seconds.values())))
    moved = comm.sum(np.array([gradients, notes["sent"], notes["observed"]], np.float64))
    names = "gradients", "selection", "observations"
    joules, source = joules_of(parts)
    return {"steps": steps, "parts": {name: float(value) / max(1, comm.size * steps)
                                      for name, value in zip(seconds, spent, strict=True)},
            "bytes": {**dict(zip(names, map(int, moved), strict=True)), "row": parts.dataset.train.row_bytes},
            "joules": joules, "joules_of": source}


def joules_of(parts):
    """The energy of all nodes since the last call: (joules, of what), or (None, None) unless every node
    counts it. All ranks must call."""
    comm, meter = parts.comm, parts.meter
    spent = meter.take() if meter else 0.0
    total, unknown = comm.sum(np.array([spent or 0.0, spent is None], np.float64))
    source = comm.bcast(meter and meter.source)
    return (None, None) if unknown else (float(total), source)


def _mean(comm, losses):
    total, count = comm.sum(np.array([losses.sum(dtype=np.float64), len(losses)], np.float64))
    return float(total / count) if count else None
