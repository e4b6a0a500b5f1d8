"""`hpcfilter probe`: the landscape of the loss around the weights of a checkpoint, over all training samples
and over those that the filter keeps."""

import copy
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hpcfilter.base.alive.watchdog import watching
from hpcfilter.base.errors import Interrupted, on_all
from hpcfilter.base.paths import check_output
from hpcfilter.data import open_packed
from hpcfilter.study.landscape.barrier import BATCH, barrier, statistics_of
from hpcfilter.study.landscape.cost import cost
from hpcfilter.study.landscape.curvature import curvature
from hpcfilter.study.landscape.file import File
from hpcfilter.study.landscape.loss import Loss, batch_of, within_memory
from hpcfilter.study.landscape.options import Options
from hpcfilter.study.landscape.samples import sample_map
from hpcfilter.study.landscape.sets import chosen, kept_samples
from hpcfilter.study.landscape.sharpness import sharpness
from hpcfilter.study.landscape.slices import slices
from hpcfilter.study.landscape.weights import Weights
from hpcfilter.train import checkpoint
from hpcfilter.train.network import Network

MEANING = "name", "label_smoothing"  # settings of [loss] that say which loss it is


def probe(run_dir, comm, settings=(), epoch=None, output=None, options=None, restart=False):
    """Measure the landscape of a run, in float32 and eval mode, and write it to probe.h5.
    All ranks must call.

    run_dir: a run folder. settings: overrides of its config.toml, such as "filter.fraction=0.5". epoch: which
    checkpoint, default the newest. output: path of the file, default probe.h5 in the run folder; a probe of
    the same weights, data and options goes on with what stands there, unless `restart`. options: Options.
    Returns (path, data.Probe). Raises InputError on all ranks.
    """
    options = options or Options()
    path, stamp, config = checkpoint.of_run(run_dir, comm, settings, epoch)
    output = output or Path(run_dir) / "probe.h5"
    others = [options.selection, *(checkpoint.sources(options.other, config) if options.other else [])]
    comm.on_first(lambda: check_output(output, [*checkpoint.sources(run_dir, config), *filter(None, others)]))
    with watching(comm, config.stop.stall_seconds):
        work = _Probe(config, path, stamp, options, comm)
        # once the model is there, whose module may have settings of its own
        with within_memory(work.batch), _exact():
            try:
                return work.run(Path(output), epoch, restart)
            except KeyboardInterrupt:
                raise Interrupted(f"interrupted: {output} has what was measured; "
                                  "the same command goes on with it") from None


class _Probe:
    """One probe: what the config describes, made for this rank, with the weights of a checked generation."""

    def __init__(self, config, path, stamp, options, comm):
        self.options, self.comm, self.stamp, self.seed = options, comm, stamp, config.seed
        with comm.together():
            self.dataset = dataset = open_packed(config.data.path)
            dataset.check(comm.rank, comm.size, config.data.verify)
            with config.places():
                self.network = network = Network(config, dataset, comm.local_rank, comm.local_size)
            checkpoint.check(stamp, path, model=network.fingerprint(), data=dataset.digest)
        network.precision = torch.float32  # whatever the run has trained with
        network.model.eval()
        self.kept = kept_samples(config, network, dataset, path, stamp, comm, options.selection)
        self.weights, self.batch = Weights(network), options.batch or batch_of(config, stamp["ranks"])
        every = np.arange(len(dataset.train))
        self.losses = {name: Loss(network, dataset.train, chosen(index, options.samples, self.seed),
                                  self.weights, self.batch, comm)
                       for name, index in (("full", every), ("filtered", np.flatnonzero(self.kept.keep)))}
        self.about = {"checkpoint": str(path), "epoch": stamp["epoch"], "weights": self.weights.digest,
                      "data": dataset.digest, "policy": self.kept.policy, "selection": self.kept.digest,
                      "score": network.score.name, "fraction": self.kept.fraction, "ranks": comm.size,
                      "total": len(every), "kept": int(self.kept.keep.sum()),
                      "sets": {name: len(loss.index) for name, loss in self.losses.items()},
                      "options": {**options.fixed(), "seed": self.seed,
                                  **{f"loss.{name}": getattr(config.loss, name) for name in MEANING}},
                      **({} if self.kept.epoch is None else {"selection_epoch": self.kept.epoch})}

    def run(self, output, epoch, restart):
        """Measure what is wanted and not there yet. Returns (path, data.Probe)."""
        self.file = File(output, self.about, restart, self.comm)
        found, wants = self.file.probe, self.options.wants
        other = self._other(epoch) if wants("barrier") else None
        alike = np.array_equal(self.losses["full"].index, self.losses["filtered"].index)
        if self.comm.rank == 0 and (line := cost(self.options, self.about["sets"], found.sets,
                                                 ["full"] if alike else self.losses)):
            print(line, file=sys.stderr, flush=True)
        for name, loss in self.losses.items():
            if name == "filtered" and alike:
                found.sets[name] = copy.deepcopy(found.sets["full"])  # the same samples
                self.file.save()
                continue
            self._measure(name, found.sets[name], loss, other)
        if wants("map") and found.samples is None:
            found.samples = sample_map(self.network, self.dataset, self.kept, self.options.samples,
                                       self.batch, self.seed, self.comm)
            self._finish("the map")
        return self.file.path, found

    def _measure(self, name, found, loss, other):
        """What is wanted over one set. found: its dict in the file. other: (state dict, attributes that say
        whose) of the other weights, or None."""
        options, seed, comm, weights = self.options, self.seed, self.comm, self.weights
        later = partial(self.file.save, now=False)
        if "loss" not in found:
            found |= dict(zip(loss.names, map(float, loss.shared()), strict=True))
            if not np.isfinite(found["loss"]):
                raise on_all(f"{self.about['checkpoint']}: the loss of these weights over the {name} set is "
                             f"{found['loss']}; expected a finite one")
            self._finish("the loss")
        if options.wants("curvature") and "trace" not in found:
            with comm.together(), within_memory(self.batch):
                loss.try_out()
            curvature(weights, loss, found, options, seed, comm, self.file.save, name)
            self._finish("curvature")
        if options.wants("slices") and "flat_share" not in found.get("slice2d", ()):
            slices(weights, loss, found, options, seed, comm, later, name)
            self._finish("slices")
        if options.wants("sharpness") and "sharpness" not in found:
            found |= sharpness(weights, loss, found["loss"], options.rho)
            self._finish("sharpness")
        if other and "barrier" not in found.get("barrier", ()):
            barrier(weights, loss, found, *other, self._statistics, comm, later, name)
            self._finish("the barrier")

    def _finish(self, part):
        """A part is done: prove that it has left no trace, and write it."""
        self.weights.prove(part)
        self.file.save()

    def _other(self, epoch):
        """The weights of the other run, of the same epoch if one was asked for. Returns (state dict,
        attributes that say whose). Raises InputError on all ranks."""
        folder, comm = self.options.other, self.comm
        path, stamp = comm.on_first(lambda: checkpoint.of_epoch(folder, epoch))
        with comm.together():
            checkpoint.check(stamp, path, model=self.network.fingerprint(), data=self.dataset.digest)
        with self.weights.restored():
            checkpoint.load(path, self.network, comm)
            state, digest = self.weights.state(), self.network.digest()
        size = max(2, min(BATCH, self.batch))  # of one sample there are no statistics
        self._statistics = statistics_of(self.network, self.dataset.train, self.seed, size)
        about = {"other": folder, "weights": digest, "batch": size}
        for found in self.file.probe.sets.values():
            before = found.get("barrier", about)
            if any(before.get(name) != about[name] for name in ("weights", "batch")):
                then, now = (f"{place.get('other')}, weights {place.get('weights')}, "
                             f"in batches of {place.get('batch')}" for place in (before, about))
                raise on_all(f"{self.file.path}: holds the barrier to {then}, got {now}; "
                             "give another --output, or --restart to begin anew")
        return state, about


@contextmanager
def _exact():
    """Matrix products and, on a GPU, convolutions in float32 proper within the block, not in
    TF32 or bfloat16."""
    cudnn, products = torch.backends.cudnn, (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    # torch.get_float32_matmul_precision fails where these were set one by one
    before = [product.fp32_precision for product in products]
    try:
        for product in products:
            product.fp32_precision = "ieee"
        with cudnn.flags(enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic,
                         allow_tf32=False):
            yield
    finally:
        for product, precision in zip(products, before, strict=True):
            product.fp32_precision = precision
