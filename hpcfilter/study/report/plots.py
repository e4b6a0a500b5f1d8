"""Pictures of benchmark results: the cases whose numbers are a curve."""

from hpcfilter.base.errors import InputError
from hpcfilter.study.report.runs import new_figure, save


def results_picture(results, path):
    """Draw what can be drawn of results into `path`, a panel for each case. results: list of dict. Needs
    matplotlib. Raises InputError."""
    panels = [(case, draw) for case, draw in DRAWN.items() if any(row["case"] == case for row in results)]
    if not panels:
        raise InputError("report: nothing to draw in these results; "
                         f"expected one of the cases {', '.join(DRAWN)}")
    figure = new_figure((4.5 * len(panels), 4))
    for axes, (case, draw) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes, [row for row in results if row["case"] == case])
        axes.set_title(case)
        axes.legend(fontsize=8)
    save(figure, path)


def _allreduce(axes, rows):
    """Measured points, fitted lines."""
    for row in rows:
        if "sizes" in row:
            (points,) = axes.plot(row["sizes"], row["seconds"], ".",
                                  label=f"{row['parameters']['library']}, {row['ranks']} ranks")
            edges = [0.0, *row["edges"], float("inf")]
            modelled = [next(a + b * size
                             for (a, b), low, high in zip(row["lines"], edges, edges[1:], strict=False)
                             if low <= size < high) for size in row["sizes"]]
            axes.plot(row["sizes"], modelled, color=points.get_color(), linewidth=1)
    axes.plot([], [], "k-", linewidth=1, label="modelled")
    axes.set(xscale="log", yscale="log", xlabel="bytes", ylabel="seconds of an allreduce")


def _growth(axes, rows):
    """Seconds of one threshold by keys, with what was modelled."""
    grown = [row for row in rows if row["parameters"]["table"] == "N grows" and "payload" in row]
    for (ranks, way), mine in _curves(grown, lambda row: (row["ranks"], row["parameters"]["way"])):
        keys = [row["parameters"]["samples"] for row in mine]
        (points,) = axes.plot(keys, [row["seconds"]["median"] for row in mine], ".",
                              label=f"{ranks} ranks, {way}")
        if all(row["modelled"] for row in mine):
            axes.plot(keys, [row["modelled"]["seconds"] for row in mine], color=points.get_color(),
                      linewidth=1)
    axes.plot([], [], "k-", linewidth=1, label="modelled")
    axes.set(xscale="log", yscale="log", xlabel="keys", ylabel="seconds of one threshold")


def _scaling(axes, rows):
    """Efficiency by ranks."""
    for (kind, policy), mine in _curves(rows,
                                        lambda row: (row["parameters"]["kind"], row["parameters"]["policy"])):
        values = [row["efficiency"] for row in mine]
        axes.errorbar([row["ranks"] for row in mine], [value for value, _ in values],
                      [half or 0 for _, half in values], marker=".", capsize=3, label=f"{kind}, {policy}")
    axes.set(xlabel="ranks", ylabel="efficiency", ylim=(0, None))


def _curves(rows, name):
    """The rows by what `name` makes of each, sorted: (name, rows in the order that they came)."""
    found = {}
    for row in rows:
        found.setdefault(name(row), []).append(row)
    return sorted(found.items())


DRAWN = {"allreduce": _allreduce, "growth": _growth, "scaling": _scaling}
