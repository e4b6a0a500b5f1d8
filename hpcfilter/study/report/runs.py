"""Run folders: what stands in them, a table that compares them, and a picture."""

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from hpcfilter.base.errors import InputError
from hpcfilter.base.paths import trouble
from hpcfilter.study.report.form import Share, TextTable

SHOWN = ("select", "train", "score", "evaluate", "checkpoint", "total")  # phases


@dataclass
class RunLog:
    """What a run folder says."""

    folder: Path
    rows: list  # of metrics.jsonl
    run: dict  # the row of the last start
    epochs: list  # of dict
    end: dict | None
    settings: dict  # "table.key" -> value, of the resolved config

    @property
    def policy(self):
        return self.filter.get("policy", "none")

    @property
    def filter(self):
        """The table [filter] of the run, or of its last phase that has one (dict)."""
        own = [phase["filter"] for phase in self.settings.get("phase", []) if "filter" in phase]
        named = {key.removeprefix("filter."): value
                 for key, value in self.settings.items() if key.startswith("filter.")}
        return own[-1] if own else named

    @property
    def label(self):
        """Policy and fraction."""
        fraction = self.filter.get("fraction")
        return (f"{self.policy} {fraction:g}" if self.policy != "none" and isinstance(fraction, int | float)
                else self.policy)

    @property
    def accuracies(self):
        """Test accuracy after each epoch; empty without classes."""
        return [row["accuracy"] for row in self.epochs if row["accuracy"] is not None]

    @property
    def waited(self):
        """Whether the parts of a step are what they took: on a GPU only with record.breakdown."""
        return self.run["device"] == "cpu" or bool(self.settings.get("record.breakdown"))

    def counted(self):
        """The epochs without the first after each start, in which the machine warms up; all of them
        when no other is left."""
        first = {row.get("first_epoch", 0) for row in self.rows if row["kind"] == "run"}
        return [row for row in self.epochs if row["epoch"] not in first] or self.epochs

    def speeds(self):
        """The rows of kind "speed" of the epochs that count."""
        counted = {row["epoch"] for row in self.counted()}
        return [row for row in self.rows if row["kind"] == "speed" and row["epoch"] in counted]

    def seconds_until(self, target):
        """Seconds from the start to the end of the first epoch at or above an accuracy, or None."""
        total = 0.0
        for row in self.epochs:
            total += row["seconds"]["total"]
            if target is not None and row["accuracy"] is not None and row["accuracy"] >= target:
                return total
        return None


def read_record(run_dir):
    """The RunLog of a run folder. Raises InputError when there is no finished epoch in it or
    it is damaged."""
    folder = Path(run_dir)
    rows = read_rows(folder)
    runs, epochs = ([row for row in rows if row["kind"] == kind] for kind in ("run", "epoch"))
    if not runs or not epochs:
        raise InputError(f"{folder}/metrics.jsonl: holds no finished epoch yet")
    try:
        config = tomllib.loads((folder / "config.toml").read_text())
    except (OSError, ValueError):
        config = {}  # a record without its config is still one of a run
    settings = {f"{table}.{key}" if isinstance(values, dict) else table: value
                for table, values in config.items()
                for key, value in (values.items() if isinstance(values, dict) else [(table, values)])}
    if phases := settings.get("phase"):
        settings["train.epochs"] = sum(phase["epochs"] for phase in phases)
    return RunLog(folder, rows, runs[-1], epochs,
                  next((row for row in rows if row["kind"] == "end"), None), settings)


def read_rows(run_dir):
    """All rows of a run folder's metrics.jsonl, dicts. Raises InputError when there are none
    or they are damaged."""
    path = Path(run_dir) / "metrics.jsonl"
    try:
        # behind the last line end: nothing, or what a killed run did not finish
        lines = path.read_text().split("\n")[:-1]
        rows = [_row(path, number, line) for number, line in enumerate(lines, 1)]
    except OSError:
        raise InputError(f"{path}: cannot be read; expected a run folder") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not JSON lines: it is no text; the file is damaged") from None
    if not all(isinstance(row, dict) and "kind" in row for row in rows):
        raise InputError(f'{path}: expected rows with a "kind"')
    return rows


def has_epoch(run_dir):
    """Whether a run folder holds a finished epoch. Raises as `read_rows`."""
    return any(row["kind"] == "epoch" for row in read_rows(run_dir))


def _row(path, number, line):
    def refuse(constant):
        raise InputError(f"{path}: not JSON lines: got {constant}, expected finite numbers, in line {number}")

    try:
        return json.loads(line, parse_constant=refuse)
    except ValueError:
        raise InputError(f"{path}: not JSON lines: line {number} is none; the file is damaged") from None


def read_run(run_dir):
    """The record of a run folder. Returns (run: dict of the last start, epochs: list of dict, end: dict or
    None). Raises as `read_record`."""
    record = read_record(run_dir)
    return record.run, record.epochs, record.end


def compare(run_dirs):
    """One line per run: test accuracy (or loss), passes saved, forward-only passes, seconds by
    phase. Returns TextTable."""
    rows, names = [], names_of(run_dirs)
    for run_dir in run_dirs:
        _, epochs, _ = read_run(run_dir)
        last = epochs[-1]
        seconds = {phase: sum(row["seconds"].get(phase, 0.0) for row in epochs)
                   for phase in (*SHOWN, "rebalance")}
        seconds["select"] += seconds["rebalance"]
        finished = last["epoch"] + 1
        loss = "diverged" if last["test_loss"] is None else f"loss {last['test_loss']:.4f}"
        rows.append([names[run_dir], loss if last["accuracy"] is None else Share(last["accuracy"]),
                     f"{100 * (1 - last['passes'] / finished):.1f} %",
                     f"{last['looks'] / finished:.2f}", *(f"{seconds[phase]:.2f}" for phase in SHOWN)])
    head = ["run", "accuracy", "passes saved", "looks", "select s", "train s", "score s", "evaluate s",
            "save s", "total s"]
    return TextTable("", head, rows)


def names_of(run_dirs):
    """What to call each run: its folder's name, or as much of the path as tells them apart.
    Returns run folder -> text."""
    paths = {run_dir: Path(run_dir).absolute() for run_dir in run_dirs}
    if len({path.name for path in paths.values()}) == len(paths):
        return {run_dir: path.name for run_dir, path in paths.items()}
    above = os.path.commonpath(paths.values())
    return {run_dir: str(path.relative_to(above)) for run_dir, path in paths.items()}


def picture(run_dirs, path):
    """Draw test accuracy (or loss) and hidden share against the epoch, one line per run, into
    `path`. Needs matplotlib."""
    figure = new_figure((7, 5))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    names = names_of(run_dirs)
    for run_dir in run_dirs:
        run, epochs, _ = read_run(run_dir)
        number = [row["epoch"] + 1 for row in epochs]
        has_classes = epochs[0]["accuracy"] is not None
        above.plot(number, [100 * row["accuracy"] if has_classes else row["test_loss"] for row in epochs],
                   marker=".", label=names[run_dir])
        below.plot(number, [100 * row["hidden"] / run["samples"] for row in epochs], marker=".")
        above.set_ylabel("test accuracy, %" if has_classes else "test loss")
    above.legend()
    below.set(xlabel="epoch", ylabel="hidden, %", ylim=(0, None))
    save(figure, path)


def new_figure(size):
    """An empty matplotlib Figure. size: inches. Raises InputError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("report: the picture needs matplotlib: pip install 'hpcfilter[plot]'") from None
    return Figure(figsize=size, layout="constrained")


def save(figure, path):
    """Write a figure, with a grid, as its name says (.png, .svg, .pdf). Raises InputError."""
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    temporary = Path(path).with_suffix(f".part{os.getpid()}{Path(path).suffix}")
    try:
        figure.savefig(temporary, dpi=150)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be drawn: {trouble(error)}") from None
    except ValueError:
        raise InputError(f"{path}: cannot be drawn: expected a name that ends with .png, "
                         ".svg or .pdf") from None
    finally:
        temporary.unlink(missing_ok=True)
