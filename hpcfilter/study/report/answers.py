"""What is known of a sample in words: its importance, what it is, and what the network takes it for."""

import math

import numpy as np

from hpcfilter.study.report.form import number


def worth(importance):
    """An importance in words. importance: float32 or float, NaN of a sample that was never observed."""
    return "not known" if math.isnan(importance) else _signed(importance)


def class_name(samples, value):
    """What a class is called. samples: of a Probe. value: of the class, an integer."""
    return samples["classes"][value] if 0 <= value < len(samples["classes"]) else f"class {value}"


def answers(samples):
    """Of each sample the truth and the prediction, "" where it is not known: names of classes, or numbers.
    samples: of a Probe. Returns two lists."""
    truths, guesses = (np.asarray(samples[name]) for name in ("label", "prediction"))
    if samples["classes"]:
        return tuple([class_name(samples, value) for value in column] for column in (truths, guesses))
    # -1 stands for more than one number, and for what older probes do not keep
    return tuple([""] * len(column) if (column == -1).all()
                 else ["" if math.isnan(value) else _signed(value) for value in column]
                 for column in (truths, guesses))


def _signed(value):
    return number(float(value) + 0.0).replace("-", "\N{NON-BREAKING HYPHEN}")  # no negative zero
