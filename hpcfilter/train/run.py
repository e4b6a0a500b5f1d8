"""One run: what the config describes, made for this rank, and its folder."""

import copy
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from hpcfilter.base.alive import faults, notice
from hpcfilter.base.alive.watchdog import watching
from hpcfilter.base.errors import BrokenInvariant, InputError, Interrupted, on_all
from hpcfilter.base.files import replace_text
from hpcfilter.base.paths import check_folder
from hpcfilter.base.shard import edges, shard
from hpcfilter.base.spans import by_value
from hpcfilter.comm import check_not_left_out
from hpcfilter.data import augmentation, open_packed
from hpcfilter.data.resident import ResidentRows
from hpcfilter.record.clock import Stopwatch
from hpcfilter.record.energy import Joules
from hpcfilter.record.metrics import Record, finite
from hpcfilter.select.sampler import ORDERS, smallest_part, table_digest
from hpcfilter.select.scores import Scores
from hpcfilter.train import checkpoint
from hpcfilter.train.boundary import Boundary
from hpcfilter.train.checks import check_run, fixed, given_rows, global_batch, policy_of
from hpcfilter.train.config import load
from hpcfilter.train.epoch import evaluate, run_epoch
from hpcfilter.train.network import Network, try_training
from hpcfilter.train.optim import Extrapolation, NoiseScale, batch_size, check_remade, learning_rate, make_optimizer, rate_ratios


def train(config_path, run_dir, comm, settings=(), resume=False):
    """Train as the run config says and leave everything in the run folder. All ranks must call.

    config_path: TOML file. run_dir: folder, new or with a run to `resume`. settings: "a.b=value" strings that override the file.
    Returns whether the run is finished; if not, it was told to leave, all is saved and the marker REQUEUE stands in the folder.
    Raises InputError on all ranks for bad input, before anything is written; Failure on rank 0 when the disk refuses a checkpoint; Interrupted
    after Ctrl-C, when all is saved, on all ranks.
    """
    comm.on_first(lambda: _check_places(config_path, Path(run_dir)))
    with comm.together():
        check_not_left_out(comm)
        config = load(config_path, settings)
        notice.deadline()
        checkpoint.check_torch()
    notice.listen(config.stop.signals)
    with watching(comm, config.stop.stall_seconds):
        with comm.together(), config.places():
            run = Run(config, run_dir, comm)
        with ExitStack() as held:
            with comm.together():
                held.enter_context(run.record.alone())
            run.open(resume)
            return run.finished or _to_the_end(run)


def _check_places(config_path, run_dir):
    """Refuse a run folder that cannot be one, or in which the run would write over its own config. One that a run has left there is the run's."""
    check_folder(run_dir)
    own, config = run_dir / "config.toml", Path(config_path)
    if own.exists() and config.exists() and own.samefile(config) and not (run_dir / "metrics.jsonl").exists():
        raise InputError(f"{run_dir}: the run would overwrite its run config {config_path}; give it another name, or another --run-dir")


def _to_the_end(run):
    """Train all epochs that are left. Returns whether they are done. From here on Ctrl-C has something to save, and a second one ends at once."""
    notice.listen(run.config.stop.signals, interrupt=True)
    try:
        while run.work.epoch < run.config.train.epochs:
            if not run_epoch(run):
                run.leave()
                return False
    except KeyboardInterrupt:
        stands = [path.name for path in checkpoint.generations(run.dir / "checkpoints")][-1:] or ["the beginning"]
        raise Interrupted(f"interrupted at once: --resume goes on from {stands[0]}") from None
    finally:
        notice.listen(run.config.stop.signals)
    run.close()
    return True


class Run:
    """One run: what the config describes, made for this rank, and its folder."""

    def __init__(self, config, run_dir, comm):
        self.config, self.comm, self.dir = config, comm, Path(run_dir)
        self.record = Record(run_dir, speaks=comm.rank == 0)
        self.dataset = dataset = open_packed(config.data_file())
        check_run(config, dataset, comm.size)
        dataset.check(comm.rank, comm.size, config.data.verify, config.data.order)
        self.shards = edges(len(dataset.train), comm.size)
        self.test_rows = shard(len(dataset.test), comm.rank, comm.size)
        self.augment = augmentation(config.data.augment, dataset, config.data.shift)
        self.network = Network(config, dataset, comm.local_rank, comm.local_size)
        self.rows = ResidentRows(dataset.train, self.network.device) if config.data.resident else dataset.train
        self.policy, _ = policy_of(config, dataset)
        self.scores = self._own_scores()
        self.global_batch = global_batch(config, comm.size)
        self._try_out(config.train)
        self._prepare_steps(config.train)
        self.plan = ORDERS[config.data.order]
        self.boundary = Boundary(comm, checkpoint.Interval(config.checkpoint.seconds, config.checkpoint.mtbf_hours))
        self.work = checkpoint.UnderWay(0)  # the epoch that is to be trained now, or the rest of it
        self.trained, self.looked = 0, 0  # samples trained and looked at so far, of all ranks
        self.last_row = None  # of the last finished epoch
        self.test_result, self.warned = None, False  # of `evaluate`, after it; of losses that are not finite
        self.meter = Joules() if comm.local_rank == 0 else None  # one per node

    def _try_out(self, train):
        """Run what the user brings on this rank's own rows, as in its smallest step, so that what does not fit is known before the run."""
        owned, ranks = np.asarray(self.scores.owned), self.comm.size
        first = batch_size(train, self.global_batch, 0)
        steps = self.config.data.order, self.scores.total, self.comm.rank, ranks, first
        part = smallest_part(*steps, train.micro_batch)
        if part < smallest_part(*steps):
            key = "micro_batch"
        else:
            key = "ramp_batch" if first < self.global_batch else "global_batch" if train.global_batch else "batch"
        batch = f"train.{key}: got {getattr(train, key)} for {ranks} rank{'s' * (ranks > 1)} and {self.scores.total} samples"
        self.network.try_out(self.dataset.train, owned[:2])
        if ":" in self.network.score.name:
            Scores(range(2), 2, self.network.score).observe(np.arange(2), self.network.look(self.dataset.train, np.resize(owned, 2), 2)[0])
        index = np.resize(owned, max(2, part))
        try_training(self.network, self.dataset.train, index, part, batch, self.augment)

    def _prepare_steps(self, train):
        """What a step is made of beside the network."""
        model, ranks = self.network.model, self.comm.size
        self.optimizer = make_optimizer(model, train)
        if ranks > 1:
            check_remade(self.optimizer, model)
        self.ratios = rate_ratios(self.optimizer)  # of its parameter groups, before anything is loaded
        self.fresh = copy.deepcopy(self.optimizer.state_dict())
        # A rank's loss is its part of the batch's mean, or the mean over its own samples: float16 has no digits for a small part of a small number
        self.reduction = "average" if train.compression == "fp16" and train.reduction == "sum" else train.reduction
        self.own_mean = self.reduction != "sum"
        self.extrapolation = None
        if train.extrapolate != "none":
            of_parameter = {part: ratio for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True) for part in group["params"]}
            self.extrapolation = Extrapolation(model, train.extrapolate, train.extrapolation, 1 if self.own_mean else ranks, of_parameter)
        self.noise = NoiseScale(model, 1 if self.own_mean else ranks) if train.noise_scale else None

    def _own_scores(self):
        """What is known of this rank's samples before the first epoch: labels, and the rows of the file that the policy works with."""
        dataset, network = self.dataset, self.network
        owned = shard(len(dataset.train), self.comm.rank, self.comm.size)
        labels = np.asarray(dataset.train.labels[owned.start : owned.stop], np.int64) if network.classes else None
        given = given_rows(self.config, dataset, (self.comm.rank, self.comm.size))
        return Scores(owned, len(dataset.train), network.score, labels, network.classes, given)

    def open(self, resume):
        """Make the run folder, or find in it where to go on; bring all ranks to the same weights."""
        self.given = table_digest(self.scores.given, self.scores.owned, self.comm)
        path, stamp = self._find() if resume else (None, None)
        train, model = self.config.train, self.network.model
        self.optimizer = self.comm.distribute(self.optimizer, model, train.deterministic, self.reduction, train.compression)
        self.adasum_parts = self.comm.adasum_parts(self.network.device.type == "cuda") if train.reduction == "adasum" else 1
        if path:  # after distribute: Horovod makes a new optimizer, without the state of the one it is given
            checkpoint.load(path, self.network, self.comm, self.optimizer, self.scores)
        self.comm.broadcast(self.network.model)
        if path:
            self._go_on(path, stamp)
        self.finished = self.comm.on_first((self.dir / "DONE").exists) and self.work.epoch >= self.config.train.epochs
        if self.finished:
            return self.record.say(f"{self.dir}: the run is finished; nothing is left to do")
        self.comm.on_first(lambda: self._claim_folder(resume))
        self.watch, self.core_start = Stopwatch(), time.process_time()
        self.record.restart(self.work.epoch, self.last_row)
        self.record.run(self.config, self.comm, data=self.dataset.digest, samples=self.scores.total, global_batch=self.global_batch,
                        device=str(self.network.device), threads=torch.get_num_threads(), first_epoch=self.work.epoch, first_step=self.work.step)
        moved = {id(part) for group in self.optimizer.param_groups for part in group["params"]}
        trained = [part for part in model.parameters() if part.requires_grad]
        if still := sum(id(part) not in moved for part in trained):
            self.record.say(f"train.optimizer: has {len(trained) - still} of the {len(trained)} parameters that can be trained; the others stay "
                            "as they are")
        if min(self.ratios) < 1:
            self.record.say(f"learning rate: its parameter groups get {', '.join(f'{ratio:.3g}' for ratio in self.ratios)} times the scheduled rate")
        place = f"epoch {self.work.epoch}" + (f", step {self.work.step}" if self.work.step else "")
        self.record.say(f"{self.dataset.path}: {self.scores.total} samples, {self.comm.size} ranks on {self.network.device}, "
                        f"global batch {self.global_batch}, policy {self.config.filter.policy}, from {place}")

    def _find(self):
        """The newest whole generation that this run can go on from. Returns (path, stamp), or (None, None) for the beginning."""
        def refuse(stamp):
            if stamp["step"] is not None and self.config.data.order == "shard" and stamp["ranks"] != self.comm.size:
                return f"was taken inside an epoch on {stamp['ranks']} ranks; in shard order {self.comm.size} cannot go on with it"
            return ""

        path, stamp, passed_over = checkpoint.newest(self.dir / "checkpoints", self.comm, refuse)
        for problem in passed_over:
            self.record.warn(f"passed over: {problem}")
        if path is not None:
            with self.comm.together(), self.config.places():
                checkpoint.check(stamp, path, model=self.network.fingerprint(), data=self.dataset.digest, given=self.given)
                checkpoint.check_settings(stamp, path, fixed(self.config, self.comm.size))
        return path, stamp

    def _go_on(self, path, stamp):
        """Take over where a generation has left off."""
        self.trained, self.looked, self.last_row = stamp["trained"], stamp["looked"], stamp["row"]
        if stamp["step"] is None:
            self.work = checkpoint.UnderWay(stamp["epoch"] + 1)
        else:
            self.work = checkpoint.resume_epoch(path, stamp, self.network, self.scores, self.comm)

    def _claim_folder(self, resume):
        if not resume and ((self.dir / "metrics.jsonl").exists() or checkpoint.generations(self.dir / "checkpoints")):
            raise InputError(f"{self.dir}: holds a run already; give --resume to go on with it, or another --run-dir")
        try:
            for marker in ("DONE", "REQUEUE"):
                (self.dir / marker).unlink(missing_ok=True)
            replace_text(self.dir / "config.toml", self.config.toml())
        except OSError as error:
            raise InputError(f"{self.dir}: cannot be the run folder: {error.strerror}") from None

    def rate(self, selection, progress):
        """The learning rate after `progress` epochs since the network began, a float that counts parts of an epoch."""
        train = self.config.train
        scale = selection.lr_scale if progress >= train.warmup_epochs else 1.0  # warm-up is the schedule's alone
        batch = self.batch(selection, int(progress) + selection.began) / self.adasum_parts  # Adasum wants the rate of what it brings together
        return scale * learning_rate(train, batch, progress, train.epochs - selection.began)

    def batch(self, selection, epoch):
        """Samples per step in an epoch, over all ranks."""
        return batch_size(self.config.train, self.global_batch, epoch - selection.began)

    def begin_anew(self, epoch):
        """Fresh weights on all ranks, and an optimizer that remembers nothing."""
        self.record.say(f"epoch {epoch:3d}  the network begins anew, on the samples that are kept")
        self.network.begin_anew(self.config.seed, epoch)
        self.optimizer.load_state_dict(copy.deepcopy(self.fresh))
        self.comm.broadcast(self.network.model)

    def joules(self):
        """The energy of all nodes since the last call: (joules, of what), or (None, None) unless every node counts it. All ranks must call."""
        spent = self.meter.take() if self.meter else 0.0
        total, unknown = self.comm.sum(np.array([spent or 0.0, spent is None], np.float64))
        source = self.comm.bcast(self.meter and self.meter.source)
        return (None, None) if unknown else (float(total), source)

    def check_weights(self, where):
        """Stop all ranks before weights that are not finite, or not the same on all ranks, become a checkpoint. where: for the message."""
        if self.comm.max(int(not self.network.is_finite())):
            raise on_all(f"train: the weights are not finite {where}: the network has diverged; lower train.lr or lengthen train.warmup_epochs")
        digests = [part.tobytes().hex() for part in self.comm.allgather(np.frombuffer(bytes.fromhex(self.network.parameter_digest()), np.uint8))]
        if len(set(digests)) > 1:
            raise BrokenInvariant(f"train: the ranks hold different weights {where}; {by_value(dict(enumerate(digests)))}; "
                                  "a rank has computed wrongly, or its memory is damaged")

    def save(self, epoch, under_way=None):
        """Save a generation: of the epoch that is under way, or else at the end of one. All ranks must call.

        It knows the row of the last finished epoch, in case the run is killed before the record does.
        """
        if under_way:  # at an epoch's end it was done before the evaluation
            self.check_weights(f"in epoch {epoch}")
        watch = Stopwatch()
        checkpoint.save(self.dir / "checkpoints", self.network, self.optimizer, self.scores, self.comm, self.config.checkpoint.keep, epoch, under_way,
                        data=self.dataset.digest, score=self.network.score.identity(), given=self.given,
                        settings=fixed(self.config, self.comm.size), trained=self.trained, looked=self.looked,
                        row=finite(self.last_row) if self.last_row else None)
        self.boundary.saved(watch.total())

    def leave(self):
        """All is saved: say so, and ask for the rest of the run with the marker REQUEUE; not after Ctrl-C, by which a person ends it."""
        reason = self.boundary.reason()
        self.record.row("stop", reason=reason, epoch=self.work.epoch, step=self.work.step, seconds=self.watch.total(),
                        core_seconds=self._core_seconds(), **self._costs())
        saved = f"saved in epoch {self.work.epoch} after {self.work.step} steps; --resume goes on from there"
        if reason == notice.CTRL_C:
            raise on_all(f"interrupted: {saved}", Interrupted)
        self.comm.on_first(lambda: self._mark("REQUEUE"))
        self.record.say(f"told to leave by {reason}: {saved}")

    def close(self):
        """The last row, the marker DONE."""
        self.record.row("end", exit=0, **(self.test_result or evaluate(self)), passes=self.trained / self.scores.total,
                        looks=self.looked / self.scores.total, seconds=self.watch.total(),
                        core_seconds=self._core_seconds(), weights=self.network.digest(), **self._costs())
        self.comm.on_first(lambda: self._mark("DONE"))

    def _core_seconds(self):
        """Seconds of cores that all ranks have used since the run was opened. All ranks must call."""
        return float(self.comm.sum(time.process_time() - self.core_start))

    def _costs(self):
        """What saving has cost so far, for the record; said on the console if the mean time between failures is known."""
        costs = self.boundary.interval.summary(self.watch.total())
        if "young_daly_seconds" in costs:
            self.record.say(f"checkpoints: {costs['saves']} saves of {costs['seconds_each']:.2f} s, {100 * costs['share']:.1f} % of the time; "
                            f"for failures every {self.config.checkpoint.mtbf_hours:g} h Young/Daly save every {costs['young_daly_seconds']:.0f} s "
                            f"and lose {100 * costs['young_daly_loss']:.1f} %")
        return {"checkpoints": costs}

    def _mark(self, name):
        faults.point("before_marker")
        (self.dir / name).touch()
