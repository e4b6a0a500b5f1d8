"""Run folders: what stands in them, a table that compares them, and a picture."""

import json
import tomllib
from pathlib import Path

from hpcfilter.errors import InputError
from hpcfilter.report.form import Table

SHOWN = ("select", "train", "score", "evaluate", "checkpoint", "total")  # phases


def read_rows(run_dir):
    """All rows of a run folder's metrics.jsonl, dicts. Raises InputError when there are none or they are damaged."""
    path = Path(run_dir) / "metrics.jsonl"
    try:
        lines = path.read_text().split("\n")[:-1]  # behind the last line end: nothing, or what a killed run did not finish
        return [json.loads(line) for line in lines]
    except OSError:
        raise InputError(f"{path}: cannot be read; expected a run folder") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON lines: {error}") from None


def read_run(run_dir):
    """The record of a run folder. Returns (run: dict of the last start, epochs: list of dict, end: dict or None).

    Raises InputError when there is no run in the folder or its record is damaged.
    """
    rows = read_rows(run_dir)
    runs = [row for row in rows if row["kind"] == "run"]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    if not runs or not epochs:
        raise InputError(f"{run_dir}/metrics.jsonl: holds no finished epoch yet")
    return runs[-1], epochs, next((row for row in rows if row["kind"] == "end"), None)


def read_config(run_dir):
    """The config that a run was trained with, as dict of tables. Raises InputError."""
    path = Path(run_dir) / "config.toml"
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def compare(run_dirs):
    """One line per run: test accuracy (or loss), passes saved, forward-only passes, seconds by phase. Returns Table."""
    rows = []
    for run_dir in run_dirs:
        _, epochs, _ = read_run(run_dir)
        last = epochs[-1]
        seconds = {phase: sum(row["seconds"].get(phase, 0.0) for row in epochs) for phase in (*SHOWN, "rebalance")}
        seconds["select"] += seconds["rebalance"]
        finished = last["epoch"] + 1
        loss = "diverged" if last["test_loss"] is None else f"loss {last['test_loss']:.4f}"
        score = loss if last["accuracy"] is None else f"{100 * last['accuracy']:.2f} %"
        rows.append([Path(run_dir).name, score, f"{100 * (1 - last['passes'] / finished):.1f} %", f"{last['looks'] / finished:.2f}",
                     *(f"{seconds[phase]:.2f}" for phase in SHOWN)])
    head = ["run", "accuracy", "passes saved", "looks", "select s", "train s", "score s", "evaluate s", "save s", "total s"]
    return Table("", head, rows)


def picture(run_dirs, path):
    """Draw test accuracy (or loss) and hidden share against the epoch, one line per run, into `path`. Needs matplotlib."""
    figure = new_figure((7, 5))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    for run_dir in run_dirs:
        run, epochs, _ = read_run(run_dir)
        number = [row["epoch"] + 1 for row in epochs]
        has_classes = epochs[0]["accuracy"] is not None
        above.plot(number, [100 * row["accuracy"] if has_classes else row["test_loss"] for row in epochs], marker=".", label=Path(run_dir).name)
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
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be drawn: {error}") from None
