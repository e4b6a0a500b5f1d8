"""`hpcfilter train`: one run, from its config to its last row."""

from contextlib import ExitStack
from pathlib import Path

import torch

from hpcfilter.base.alive import notice
from hpcfilter.base.alive.watchdog import watching
from hpcfilter.base.errors import Interrupted
from hpcfilter.comm import check_not_left_out
from hpcfilter.data import moved_late
from hpcfilter.record.metrics import Record
from hpcfilter.train import checkpoint
from hpcfilter.train.config import load
from hpcfilter.train.epoch import run_epoch
from hpcfilter.train.exchange import engine_of, exchange_of
from hpcfilter.train.folder import Folder, check_places, go_on
from hpcfilter.train.network.device import device_of
from hpcfilter.train.parts import make_parts
from hpcfilter.train.phases import check_weights_to_come, phase_of
from hpcfilter.train.progress import Progress
from hpcfilter.train.start import start_from


def train(config_path, run_dir, comm, settings=(), resume=False):
    """Train as the run config says and leave everything in the run folder. All ranks must call.

    config_path: TOML file. run_dir: folder, new or with a run to `resume`. settings: "a.b=value" strings
    that override the file. Returns whether the run is finished; if not, it was told to leave, all is saved
    and the marker REQUEUE stands in the folder. Raises InputError on all ranks for bad input, before
    anything is written; Failure on rank 0 when the disk refuses a checkpoint; Interrupted after Ctrl-C, when
    all is saved, on all ranks.
    """
    comm.on_first(lambda: check_places(config_path, Path(run_dir)))
    with comm.together():
        check_not_left_out(comm)
        config = load(config_path, settings)
        notice.deadline()
        checkpoint.check_torch()
    notice.listen(config.stop.signals)
    with watching(comm, config.stop.stall_seconds):
        record = Record(run_dir, speaks=comm.rank == 0)
        engine = engine_for(config, comm)
        with comm.together(), config.places():
            parts = make_parts(config, comm, engine, record)
        with ExitStack() as held:
            with comm.together():
                held.enter_context(record.alone())
            folder = Folder(run_dir, config, comm)
            progress = begin(parts, folder, resume)
            return progress is None or to_the_end(parts, progress, folder)


def engine_for(config, comm):
    """What carries the gradients of a run. All ranks must call. Raises InputError on all of them."""
    with comm.together(), config.places():
        exchange_of(config.exchange)
        device = device_of(config.train.device, comm.local_rank)
    return engine_of(config.exchange, comm, device, config.train.deterministic)


def begin(parts, folder, resume):
    """Find where to go on, bring all ranks to the same weights, and make the run folder this
    run's. All ranks must call.

    Returns Progress, or None when the run is finished.
    """
    network, updates = parts.network, parts.updates
    path, stamp = folder.find(parts) if resume else (None, None)
    progress = Progress()
    if path:
        _train_as(parts, stamp["epoch"])
        updates.connect()
        # after connect, which makes a new optimiser
        checkpoint.load(path, network, parts.comm, updates, parts.selector.scores)
    else:
        updates.connect()
        if parts.config.model.start:
            progress.start = start_from(parts, parts.config.model.start, "model.start")
    updates.exchange.broadcast(network.model)
    if path:
        progress = go_on(parts, path, stamp)
    if folder.is_finished(progress):
        parts.record.say(f"{folder.path}: the run is finished; nothing is left to do")
        return None
    check_weights_to_come(parts, progress)
    folder.claim(resume)
    _say_what_begins(parts, progress)
    return progress


def _train_as(parts, epoch):
    """Have those parameters trained that a checkpoint of this epoch has the optimiser of."""
    phases = parts.config.all_phases()
    number, _ = phase_of(parts.config, epoch)
    if phases[number].train != phases[0].train:
        parts.updates.release()
        parts.updates.select(phases[number].train)
        parts.updates.make()


def _say_what_begins(parts, progress):
    """The row of kind "run", and what a person should know before the first step."""
    config, record, dataset, updates = parts.config, parts.record, parts.dataset, parts.updates
    samples, engine = parts.selector.scores.total, updates.exchange.engine
    record.restart(progress.epoch, progress.row)
    record.run(config, parts.comm, data=dataset.digest, samples=samples, global_batch=parts.global_batch,
               device=str(parts.network.device), threads=torch.get_num_threads(),
               augment_on=_augmented(parts), compile=config.train.compile,
               first_epoch=progress.epoch, first_step=progress.step,
               engine=engine.name, engine_why=engine.why,
               **({"start": progress.start} if progress.start else {}))
    if _augmented(parts) == "device":
        record.say(f"data.augment: {config.data.augment}, drawn on the host, moves the pixels on "
                   f"{parts.network.device}")
    if config.train.compile:
        record.say(f"train.compile: {str(config.train.compile).lower()}; torch compiles again when the size "
                   "of a batch changes, and sums have other last bits than without")
    can, still = updates.untrained
    if still:
        record.say(f"optim.name: has {can - still} of the {can} parameters that can be trained; "
                   "the others stay as they are")
    if min(updates.ratios) < 1:
        record.say("learning rate: its parameter groups get "
                   f"{', '.join(f'{ratio:.3g}' for ratio in updates.ratios)} times the scheduled rate")
    if parts.comm.size > 1:
        record.say(f"gradients: by {engine.name}: {engine.why}" + (f"; {engine.over}" if engine.over else ""))
    place = f"epoch {progress.epoch}" + (f", step {progress.step}" if progress.step else "")
    record.say(f"{dataset.path}: {samples} samples, {parts.comm.size} ranks on {parts.network.device}, "
               f"global batch {parts.global_batch}, policy {config.policy}, from {place}")


def _augmented(parts):
    """Where images are augmented: "host", "device", or None without augmentation."""
    if parts.augment is None:
        return None
    return "device" if moved_late(parts.config.data, parts.network.device.type != "cpu") else "host"


def to_the_end(parts, progress, folder):
    """Train all epochs that are left. Returns whether they are done. From here on Ctrl-C has something to
    save, and a second one ends at once."""
    signals = parts.config.stop.signals
    notice.listen(signals, interrupt=True)
    try:
        while progress.epoch < parts.config.train.epochs:
            if not run_epoch(parts, progress, folder):
                folder.leave(parts, progress)
                return False
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted at once: --resume goes on from {folder.stands()}") from None
    finally:
        notice.listen(signals)
    folder.close(parts, progress)
    return True
