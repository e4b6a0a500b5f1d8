"""What runs have to say, from their run folders alone: one table, one picture."""

import json
from pathlib import Path

from hpcfilter.errors import InputError


def read_run(run_dir):
    """The rows of a run folder's metrics.jsonl. Returns (run: dict of the last start, epochs: list of dict, end: dict or None).

    Raises InputError when there is no run in the folder or its record is damaged.
    """
    path = Path(run_dir) / "metrics.jsonl"
    try:
        lines = path.read_text().split("\n")[:-1]  # behind the last line end: nothing, or what a killed run did not finish
        rows = [json.loads(line) for line in lines]
    except OSError:
        raise InputError(f"{path}: cannot be read; expected a run folder") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON lines: {error}") from None
    runs = [row for row in rows if row["kind"] == "run"]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    if not runs or not epochs:
        raise InputError(f"{path}: holds no finished epoch yet")
    return runs[-1], epochs, next((row for row in rows if row["kind"] == "end"), None)


def table(run_dirs):
    """One line per run: test accuracy (or loss), passes saved, forward-only passes, seconds by phase. Returns text."""
    head = ["run", "accuracy", "passes saved", "looks", "select s", "train s", "score s", "evaluate s", "save s", "total s"]
    lines = [head]
    for run_dir in run_dirs:
        _, epochs, _ = read_run(run_dir)
        last = epochs[-1]
        seconds = {phase: sum(row["seconds"][phase] for row in epochs) for phase in last["seconds"]}
        finished = last["epoch"] + 1
        loss = "diverged" if last["test_loss"] is None else f"loss {last['test_loss']:.4f}"
        score = loss if last["accuracy"] is None else f"{100 * last['accuracy']:.2f} %"
        lines.append([Path(run_dir).name, score, f"{100 * (1 - last['passes'] / finished):.1f} %", f"{last['looks'] / finished:.2f}",
                      *(f"{seconds[phase]:.2f}" for phase in ("select", "train", "score", "evaluate", "checkpoint", "total"))])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) if not number else cell.rjust(width)
                               for number, (cell, width) in enumerate(zip(line, widths, strict=True))) for line in lines)


def picture(run_dirs, path):
    """Draw test accuracy (or loss) and hidden share against the epoch, one line per run, into `path`. Needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("report: the picture needs matplotlib: pip install 'hpcfilter[plot]'") from None
    figure = Figure(figsize=(7, 5), layout="constrained")
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
    for axes in (above, below):
        axes.grid(alpha=0.3)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be drawn: {error}") from None
