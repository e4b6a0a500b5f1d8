"""The run folder: whose it is, what is saved in it, where a run goes on, and the markers
that say how it ended."""

import time
from pathlib import Path

from hpcfilter.base.alive import faults, notice
from hpcfilter.base.errors import InputError, Interrupted, on_all
from hpcfilter.base.files import replace_text
from hpcfilter.base.paths import check_folder
from hpcfilter.record.clock import Stopwatch
from hpcfilter.record.metrics import finite
from hpcfilter.train import checkpoint
from hpcfilter.train.checks import fixed
from hpcfilter.train.evaluate import check_weights, evaluate
from hpcfilter.train.progress import Progress
from hpcfilter.train.rows import epoch_row, write_rows

# markers: the run is finished; it was told to leave, and wants the rest of its time
DONE, REQUEUE = "DONE", "REQUEUE"


def check_places(config_path, run_dir):
    """Refuse a run folder that cannot be one, or in which the run would write over its own config. One that a
    run has left there is the run's."""
    check_folder(run_dir)
    own, config = run_dir / "config.toml", Path(config_path)
    if own.exists() and config.exists() and own.samefile(config) and not (run_dir / "metrics.jsonl").exists():
        raise InputError(f"{run_dir}: the run would overwrite its run config {config_path}; "
                         "give it another name, or another --run-dir")


class Folder:
    """The folder of one run, and the clocks of this process in it. All ranks must call its
    methods; rank 0 writes."""

    def __init__(self, path, config, comm):
        self.path, self._config, self._comm = Path(path), config, comm
        self.checkpoints = self.path / "checkpoints"
        self._watch, self._cores = Stopwatch(), time.process_time()

    # Where to begin

    def find(self, parts):
        """The newest whole generation that this run can go on from. Returns (path, stamp), or
        (None, None) for the beginning."""
        config, comm = self._config, self._comm

        def refuse(stamp):
            if stamp["step"] is not None and config.data.order == "shard" and stamp["ranks"] != comm.size:
                return (f"was taken inside an epoch on {stamp['ranks']} ranks; "
                        f"in shard order {comm.size} cannot go on with it")
            return ""

        path, stamp, passed_over = checkpoint.newest(self.checkpoints, comm, refuse)
        for problem in passed_over:
            parts.record.warn(f"passed over: {problem}")
        if path is not None:
            given = parts.selector.given_digest
            with comm.together(), config.places():
                checkpoint.check(stamp, path, model=parts.network.fingerprint(), data=parts.dataset.digest,
                                 given=given)
                checkpoint.check_settings(stamp, path, fixed(config, comm.size))
        return path, stamp

    def is_finished(self, progress):
        """Whether nothing is left to do."""
        return self._comm.on_first((self.path / DONE).exists) and progress.epoch >= self._config.train.epochs

    def claim(self, resume):
        """Make the folder this run's. Raises InputError on all ranks when it holds another run,
        or cannot be written."""
        self._comm.on_first(lambda: self._claim(resume))
        self._watch, self._cores = Stopwatch(), time.process_time()

    def _claim(self, resume):
        if (not resume
                and ((self.path / "metrics.jsonl").exists() or checkpoint.generations(self.checkpoints))):
            raise InputError(f"{self.path}: holds a run already; give --resume to go on with it, "
                             "or another --run-dir")
        try:
            for marker in (DONE, REQUEUE):
                (self.path / marker).unlink(missing_ok=True)
            replace_text(self.path / "config.toml", self._config.toml())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be the run folder: {error.strerror}") from None

    # What is saved

    def save(self, parts, progress, told):
        """Save a generation inside an epoch. told: "save" or "leave", of the boundary. Returns
        whether the ranks stay."""
        with progress.clock("checkpoint"):
            # at an epoch's end it was done before the evaluation
            check_weights(parts, f"in epoch {progress.epoch}")
            progress.rows, progress.seconds = progress.seen.rows(), progress.clock.so_far()
            self._save(parts, progress)
        return told != "leave"

    def finish_epoch(self, parts, progress, selection, plan, seen, result):
        """The end of an epoch: its rows, perhaps a generation. Returns whether the ranks stay.

        A generation knows the row of the epoch, in case the run is killed before the record does.
        """
        progress.result = result
        row, clock = epoch_row(parts, progress, selection, plan, seen, result), progress.clock
        progress.row = {**row, "seconds": {"total": clock.total(), **clock.seconds}}
        told, epochs = parts.boundary.agree(), self._config.train.epochs
        progress.next()
        with clock("checkpoint"):
            if told or progress.epoch == epochs or progress.epoch % self._config.checkpoint.every == 0:
                self._save(parts, progress)
        write_rows(parts, progress, selection, plan,
                   {**row, "seconds": {"total": clock.total(), **clock.seconds}})
        return told != "leave" or progress.epoch == epochs

    def _save(self, parts, progress):
        self._comm.on_first(parts.record.check_own)
        watch = Stopwatch()
        checkpoint.save(self.checkpoints, parts, progress, data=parts.dataset.digest,
                        score=parts.network.score.identity(), given=parts.selector.given_digest,
                        settings=fixed(self._config, self._comm.size), start=progress.start,
                        trained=progress.trained, looked=progress.looked,
                        row=finite(progress.row) if progress.row else None)
        parts.boundary.saved(watch.total())

    # How it ends

    def leave(self, parts, progress):
        """All is saved: say so, and ask for the rest of the run with the marker REQUEUE; not after Ctrl-C, by
        which a person ends it."""
        reason = parts.boundary.reason()
        parts.record.row("stop", reason=reason, epoch=progress.epoch, step=progress.step,
                         **self._costs(parts))
        saved = f"saved in epoch {progress.epoch} after {progress.step} steps; --resume goes on from there"
        if reason == notice.CTRL_C:
            raise on_all(f"interrupted: {saved}", Interrupted)
        self._comm.on_first(lambda: self._mark(REQUEUE))
        parts.record.say(f"told to leave by {reason}: {saved}")

    def close(self, parts, progress):
        """The last row, the marker DONE."""
        result, total = progress.result or evaluate(parts, Stopwatch("evaluate")), parts.selector.scores.total
        parts.record.row("end", exit=0, **result, passes=progress.trained / total,
                         looks=progress.looked / total, weights=parts.network.digest(), **self._costs(parts))
        self._comm.on_first(lambda: self._mark(DONE))

    def stands(self):
        """The name of the newest generation, or "the beginning"."""
        return ["the beginning", *(path.name for path in checkpoint.generations(self.checkpoints))][-1]

    def _costs(self, parts):
        """What this process's part of the run took, and what saving has cost; the latter is said if the mean
        time between failures is known."""
        seconds, cores = self._watch.total(), float(self._comm.sum(time.process_time() - self._cores))
        costs = parts.boundary.interval.summary(seconds)
        if "young_daly_seconds" in costs:
            parts.record.say(f"checkpoints: {costs['saves']} saves of {costs['seconds_each']:.2f} s, "
                             f"{100 * costs['share']:.1f} % of the time; "
                             f"for failures every {self._config.checkpoint.mtbf_hours:g} h Young/Daly "
                             f"save every {costs['young_daly_seconds']:.0f} s and lose "
                             f"{100 * costs['young_daly_loss']:.1f} %")
        return {"seconds": seconds, "core_seconds": cores, "checkpoints": costs}

    def _mark(self, name):
        faults.point("before_marker")
        (self.path / name).touch()


def go_on(parts, path, stamp):
    """Where a generation has left off, a Progress. All ranks must call, after its weights
    are equal on all."""
    progress = Progress(trained=stamp["trained"], looked=stamp["looked"], row=stamp["row"],
                        start=stamp["start"])
    if stamp["step"] is None:
        progress.epoch = stamp["epoch"] + 1
    else:
        checkpoint.resume_epoch(path, stamp, parts, progress)
    return progress
