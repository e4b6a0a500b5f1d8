"""What a probe says on the console."""

import numpy as np


def summary(probe):
    """A short table, one column for each set of samples. probe: data.Probe. Returns str."""
    about, sets = probe.about, probe.sets
    heads = ["", *(f"{name}, {about['sets'][name]} samples" for name in sets)]
    rows = [[name, *(show(found) for found in sets.values())] for name, show in _ROWS]
    rows = [heads, *(row for row in rows if any(row[1:]))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in rows]
    if about["kept"] == about["total"]:
        lines.insert(0, f"{about['policy']} keeps all {about['total']} samples, so both sets are the same")
    elif about.get("selection_epoch", about["epoch"] + 1) <= about["epoch"]:
        lines.insert(0, f"after epoch {about['selection_epoch']} {about['policy']} keeps everything; "
                     "filtered: what it would keep in that epoch")
    return "\n".join([f"epoch {about['epoch']}, weights {about['weights']}", *lines])


def _numbers(values):
    return ", ".join(f"{value:.4g}" for value in np.atleast_1d(values))


def _of(*place):
    """Function of what was measured over a set that gives one of its values as text, ""
    where it is not there."""
    def show(found):
        for name in place:
            if not isinstance(found, dict) or name not in found:
                return ""
            found = found[name]
        return _numbers(found)

    return show


def _trace(found):
    return f"{found['trace']:.4g} ± {found['trace_error']:.2g}" if "trace" in found else ""


_ROWS = (("loss", _of("loss")), ("largest eigenvalues", _of("eigenvalues")), ("trace", _trace),
         ("minima of each line", _of("slice1d", "minima")),
         ("roughness of each line", _of("slice1d", "roughness")),
         ("minima of the plane", _of("slice2d", "minima")),
         ("flat share of the plane", _of("slice2d", "flat_share")), ("sharpness", _of("sharpness")),
         ("barrier", _of("barrier", "barrier")))
