"""The loop: select, train on what is kept, take the observations home, refresh, evaluate, save. One epoch is one screen."""

from pathlib import Path

import numpy as np
import torch

from hpcfilter import checkpoint
from hpcfilter.config import load
from hpcfilter.data import augmentation, edges, open_packed, read_batches, read_given, shard
from hpcfilter.errors import InputError, on_all
from hpcfilter.network import Columns, Network, seed_of
from hpcfilter.optim import learning_rate, sgd
from hpcfilter.policies import check_score, given_file, policy_function
from hpcfilter.record import Record, Stopwatch, finite
from hpcfilter.sampler import ORDERS, batch_means, check_steps, deliver, selection_digest, table_digest
from hpcfilter.scores import Scores

LOOK_FACTOR = 4  # a forward pass without gradients takes batches this much larger


def train(config_path, run_dir, comm, settings=(), resume=False):
    """Train as the run config says and leave everything in the run folder. All ranks must call.

    config_path: TOML file. run_dir: folder, new or with a run to `resume`. settings: "a.b=value" strings that override the file.
    Raises InputError on all ranks for bad input, before anything is written.
    """
    with comm.together():
        config = load(config_path, settings)
        with config.places():
            run = Run(config, run_dir, comm)
    run.open(resume)
    for epoch in range(run.first_epoch, run.config.train.epochs):
        run.epoch(epoch)
    run.close()


class Run:
    """One run: what the config describes, made for this rank, and its folder."""

    def __init__(self, config, run_dir, comm):
        self.config, self.comm, self.dir = config, comm, Path(run_dir)
        self.record = Record(run_dir, speaks=comm.rank == 0)
        self.dataset = dataset = open_packed(config.data.path)
        samples = len(dataset.train)
        dataset.check(comm.rank, comm.size, config.data.verify)
        self.shards = edges(samples, comm.size)
        self.test_rows = shard(len(dataset.test), comm.rank, comm.size)
        self.augment = augmentation(config.data.augment, dataset, config.data.shift)
        self.network = Network(config, dataset, comm.local_rank, comm.local_size)
        self.policy, parameters = policy_function(config.filter.policy, config.filter.model_extra, self.network.classes, self.network.classes,
                                                  f"{dataset.path} with {dataset.target}", epochs=config.train.epochs)
        self.scores = self._own_scores(parameters)
        self.optimizer = sgd(self.network.model, config.train)
        self.global_batch = config.train.global_batch or config.train.batch * comm.size
        self.plan = ORDERS[config.data.order]
        self.first_epoch, self.trained, self.looked = 0, 0, 0  # trained, looked at: samples so far, of all ranks
        self.test_result = None  # (loss, accuracy) after the last epoch
        self.network.try_out(dataset.train, np.asarray(self.scores.owned[:2]))
        self.warned = False

    def _own_scores(self, parameters):
        """What is known of this rank's samples before the first epoch: labels, and the rows of the file that the policy works with."""
        config, dataset, network = self.config, self.dataset, self.network
        if network.score.needs_passes:
            raise InputError(f"score.name: {network.score.name} is taken of a finished network, by `hpcfilter score`, not while it trains")
        owned = shard(len(dataset.train), self.comm.rank, self.comm.size)
        labels = np.asarray(dataset.train.labels[owned.start : owned.stop], np.int64) if network.classes else None
        check_score(config.filter.policy, parameters, self.policy.keywords, network.score)
        path, columns = given_file(config.filter.policy, parameters)
        given = read_given(path, columns, owned, len(dataset.train), dataset.digest) if path else {}
        return Scores(owned, len(dataset.train), network.score, labels, network.classes, given)

    def open(self, resume):
        """Make the run folder, or find in it where to go on; bring all ranks to the same weights."""
        self.given = table_digest(self.scores.given, self.scores.owned, self.comm)
        path, row = self._resume() if resume else (None, None)
        self.optimizer = self.comm.distribute(self.optimizer, self.network.model)
        if path:  # after distribute: Horovod makes a new optimizer, without the state of the one it is given
            checkpoint.load(path, self.network, self.comm, self.optimizer, self.scores)
        self.comm.broadcast(self.network.model)
        self.comm.on_first(lambda: self._claim_folder(resume))
        self.watch = Stopwatch()
        self.record.restart(self.first_epoch, row)
        self.record.run(self.config, self.comm, data=self.dataset.digest, samples=self.scores.total, global_batch=self.global_batch,
                        device=str(self.network.device), threads=torch.get_num_threads(), first_epoch=self.first_epoch)
        self.record.say(f"{self.dataset.path}: {self.scores.total} samples, {self.comm.size} ranks on {self.network.device}, "
                        f"global batch {self.global_batch}, policy {self.config.filter.policy}, from epoch {self.first_epoch}")

    def epoch(self, epoch):
        """One epoch."""
        config, comm, network, watch = self.config, self.comm, self.network, Stopwatch("train", "select", "score", "evaluate", "checkpoint")
        with watch("select"):
            selection = self.policy(self.scores, epoch, config.seed, comm)
            plan = self.plan(selection, self.shards, comm, config.seed, epoch, self.global_batch)
            check_steps(plan, comm)
            if epoch and epoch == selection.began:
                self._begin_anew(epoch)
            schedule = epoch - selection.began, config.train.epochs - selection.began
        with watch("train"):
            torch.manual_seed(seed_of(config.seed, epoch, "dropout", comm.rank))
            seen, rate = Columns(network.classes > 0), 0.0
            for step, (batch, images, labels) in enumerate(read_batches(self.dataset.train, plan, self.augment, config.seed, epoch)):
                progress = schedule[0] + step / plan.steps
                scale = selection.lr_scale if progress >= config.train.warmup_epochs else 1.0  # warm-up is the schedule's alone
                rate = scale * learning_rate(config.train, self.global_batch, progress, schedule[1])
                self._step(batch, images, labels, rate, seen)
            columns, losses = seen.arrays()
        with watch("score"):
            if network.score.needs_batches:
                columns["value"] = batch_means(losses, plan.cuts, comm)
            self._take_home(selection, plan, columns)
            comm.average_buffers(network.model, len(plan.index) / int(comm.sum(len(plan.index))))
            refreshed = self._refresh(selection)
        self._refuse_diverged(epoch)
        with watch("evaluate"):
            self.test_result = test_loss, accuracy = self._evaluate()
        counts = self._count(kept=selection.keep, moved_back=selection.moved_back, refreshed=refreshed,
                             trained=np.ones(len(plan.index), bool), nan=~np.isfinite(losses))
        row = {"epoch": epoch, **counts, "hidden": self.scores.total - counts["kept"], "steps": plan.steps, "threshold": selection.threshold,
               "train_loss": _mean(comm, losses), "test_loss": test_loss, "accuracy": accuracy, "lr": rate, "imbalance": plan.imbalance,
               "passes": self.trained / self.scores.total, "looks": self.looked / self.scores.total,
               "selection": selection_digest(selection, self.scores.owned, comm), "batches": plan.digest(comm)}
        with watch("checkpoint"):
            if (epoch + 1) % config.checkpoint.every == 0 or epoch + 1 == config.train.epochs:
                self._save(epoch, finite({**row, "seconds": {"total": watch.total(), **watch.seconds}}))
        self._report({**row, "seconds": {"total": watch.total(), **watch.seconds}})

    def _take_home(self, selection, plan, columns):
        """The observations of the epoch go to the owners of the samples, unless the scores are to stay as they are."""
        self.scores.advance(selection)
        if not selection.frozen:
            self.scores.observe(*deliver(plan.index, columns, self.shards, self.comm))

    def _refuse_diverged(self, epoch):
        """Stop all ranks before weights that are not finite become a checkpoint."""
        if self.comm.max(int(not self.network.is_finite())):
            raise on_all(f"train: the weights are not finite after epoch {epoch}: the network has diverged; lower train.lr "
                         "or lengthen train.warmup_epochs")

    def _refresh(self, selection):
        """A forward pass over the hidden samples that the selection names. Returns their mask."""
        refresh = selection.refresh & (not selection.frozen) & (not self.network.score.needs_batches)  # a batch loss comes from training alone
        hidden = np.asarray(self.scores.owned)[refresh]
        self.scores.observe(hidden, self.network.look(self.dataset.train, hidden, self._look_batch())[0])
        return refresh

    def _begin_anew(self, epoch):
        """Fresh weights on all ranks, and an optimizer that remembers nothing."""
        self.record.say(f"epoch {epoch:3d}  the network begins anew, on the samples that are kept")
        self.network.begin_anew(self.config.seed, epoch)
        self.optimizer.state.clear()
        self.comm.broadcast(self.network.model)

    def _count(self, **masks):
        """Count truth values over all ranks; keep the running totals. masks: name -> bool array. Returns name -> int."""
        totals = self.comm.sum(np.array([np.count_nonzero(mask) for mask in masks.values()], np.int64))
        counts = dict(zip(masks, map(int, totals), strict=True))
        trained = counts.pop("trained")
        self.trained += trained
        if trained and counts["nan"] == trained:
            raise on_all(f"train: not one of {trained} losses is finite: the network has diverged; lower train.lr or lengthen train.warmup_epochs")
        self.looked += counts["refreshed"]
        return counts

    def _step(self, batch, images, labels, rate, seen):
        """Forward, backward, step. Each rank's loss is its part of the sum over the global batch, divided by the global count."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        if len(batch.index):  # a rank without samples in this step still takes part in the sum of the gradients, with zeros
            x, y = self.network.tensors(images, labels)
            output, losses = self.network.forward(x, y)
            weight = torch.from_numpy(batch.weight).to(x.device)
            (losses * weight).sum().div(batch.total).backward()
            seen.add(self.network.observe(output, y, losses), losses)
        self.optimizer.step()

    def _evaluate(self):
        """Test loss and accuracy (None without classes) over all ranks' parts of the test split."""
        seen, losses = self.network.look(self.dataset.test, np.asarray(self.test_rows), self._look_batch())
        right = seen["correct"].sum() if self.network.classes else 0
        loss, right, count = self.comm.sum(np.array([losses.sum(dtype=np.float64), right, len(losses)], np.float64))
        return float(loss / count), float(right / count) if self.network.classes else None

    def _look_batch(self):
        return LOOK_FACTOR * -(-self.global_batch // self.comm.size)

    def _save(self, epoch, row):
        """Save a generation; it knows its epoch's row, in case the run is killed before the record does."""
        checkpoint.save(self.dir / "checkpoints", epoch, self.network, self.optimizer, self.scores, self.comm, self.config.checkpoint.keep,
                        data=self.dataset.digest, score=self.network.score.identity(), given=self.given,
                        settings={**self.config.fixed(), "train.global_batch": self.global_batch},
                        trained=self.trained, looked=self.looked, row=row)

    def _resume(self):
        """Find the newest whole generation and check that it belongs to this run. Returns (path, row of its epoch), or (None, None)."""
        path, stamp, broken = checkpoint.newest(self.dir / "checkpoints", self.comm)
        for problem in broken:
            self.record.warn(f"passed over: {problem}")
        if path is None:
            return None, None
        with self.comm.together(), self.config.places():
            checkpoint.check(stamp, path, model=self.network.fingerprint(), data=self.dataset.digest, given=self.given)
            checkpoint.check_settings(stamp, path, {**self.config.fixed(), "train.global_batch": self.global_batch})
        self.first_epoch, self.trained, self.looked = stamp["epoch"] + 1, stamp["trained"], stamp["looked"]
        return path, stamp["row"]

    def _claim_folder(self, resume):
        if not resume and ((self.dir / "metrics.jsonl").exists() or checkpoint.generations(self.dir / "checkpoints")):
            raise InputError(f"{self.dir}: holds a run already; give --resume to go on with it, or another --run-dir")
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
            for marker in ("DONE", "REQUEUE"):
                (self.dir / marker).unlink(missing_ok=True)
            (self.dir / "config.toml").write_text(self.config.toml())
        except OSError as error:
            raise InputError(f"{self.dir}: cannot be the run folder: {error.strerror}") from None

    def _report(self, row):
        """The epoch's row, and its line on the console."""
        self.record.row("epoch", **row)
        if row["nan"] and not self.warned:
            self.record.warn(f"epoch {row['epoch']}: {row['nan']} losses are not finite; their samples are kept (counted in every row)")
            self.warned = True
        score = f"test loss {row['test_loss']:.4f}" if row["accuracy"] is None else f"accuracy {100 * row['accuracy']:.2f} %"
        self.record.say(f"epoch {row['epoch']:3d}  loss {row['train_loss']:.4f}  {score}  hidden {100 * row['hidden'] / self.scores.total:.1f} %  "
                        f"moved back {row['moved_back']}  lr {row['lr']:.4g}  {row['seconds']['total']:.1f} s")

    def close(self):
        """The last row, the marker DONE."""
        test_loss, accuracy = self.test_result or self._evaluate()  # nothing was left to train
        self.record.row("end", exit=0, accuracy=accuracy, test_loss=test_loss, passes=self.trained / self.scores.total,
                        looks=self.looked / self.scores.total, seconds=self.watch.total(), weights=self.network.digest())
        self.comm.on_first((self.dir / "DONE").touch)


def _mean(comm, losses):
    total, count = comm.sum(np.array([losses.sum(dtype=np.float64), len(losses)], np.float64))
    return float(total / count) if count else None
