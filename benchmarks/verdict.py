"""What runs with and without a filter say, in sentences: passes saved, accuracy on both sides, and whether a
seed explains the difference."""

import statistics

from hpcfilter.study.report import read_run
from hpcfilter.study.report.statistics import interval


def verdict(pairs, test_rows, noun="image"):
    """Three sentences. pairs: (run folder without a filter, run folder with one) of each seed. test_rows: how
    many the accuracy is of. noun: what a row is."""
    sides = [[read_run(folder) for folder in side] for side in zip(*pairs, strict=True)]
    policy = pairs[0][1].name
    saved, looks = (statistics.mean(values)
                    for values in zip(*(_passes(run) for run in sides[1]), strict=True))
    said = [f"With {policy}: {100 * saved:.0f} % fewer passes (forward and backward)"
            + (f", and {looks:.2f} forward-only looks per sample and epoch." if looks else ".")]
    ends = [[end for _, _, end in side] for side in sides]
    if any(end["test_loss"] is None for side in ends for end in side):
        return "\n".join([*said, "A run has diverged, so nothing is said of the accuracy."])
    classes = ends[0][0]["accuracy"] is not None
    plain, filtered = ([100 * end["accuracy"] if classes else end["test_loss"] for end in side]
                       for side in ends)
    seeds = f" (mean and deviation of {len(pairs)} seeds)" if len(pairs) > 1 else " (one seed)"
    said += [f"{'Accuracy' if classes else 'Test loss'} {_spread(filtered, classes)} against "
             f"{_spread(plain, classes)} without{seeds}."]
    return "\n".join([*said, difference(plain, filtered, test_rows if classes else None, noun)])


def difference(plain, filtered, test_rows=None, noun="image"):
    """One sentence on the difference of two sides, paired by seed. test_rows: the values are accuracies in
    percent, of so many rows."""
    gaps = [one - other for one, other in zip(filtered, plain, strict=True)]
    mean = statistics.mean(gaps)
    if test_rows is None:
        size = f"a mean difference of {abs(mean):.4f}"
    else:
        size = f"a mean difference of {_counted(abs(mean) / 100 * test_rows, noun)} of {test_rows}"
    if len(gaps) == 1:
        return f"That is {size}; one seed cannot tell it from noise."
    noise = interval(gaps).half
    within = "within the noise of a seed" if abs(mean) <= noise else "more than the noise of a seed explains"
    return f"That is {size}: {within}."


def _counted(count, noun):
    """How many of the test set, in words: "1 test image", "0.7 test images"."""
    number = f"{count:.1f}".removesuffix(".0")
    return f"{number} test {noun}{'s' * (number != '1')}"


def _passes(run):
    """(share of the passes that a run has saved, forward-only passes per sample and epoch)."""
    last = run[1][-1]
    finished = last["epoch"] + 1
    return 1 - last["passes"] / finished, last["looks"] / finished


def _spread(values, percent):
    form = "{:.2f}" if percent else "{:.4f}"
    deviation = f" ± {form.format(statistics.stdev(values))}" if len(values) > 1 else ""
    return f"{form.format(statistics.mean(values))}{deviation}{' %' * percent}"
