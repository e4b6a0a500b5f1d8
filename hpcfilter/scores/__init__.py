"""What a sample is worth: a score is a function of a batch, (output, target, losses) -> (b,), and never communicates.

Direction, once and for all: higher = more worth training. A score that reads class labels says `needs_classes`.
"""

from hpcfilter.config import choose
from hpcfilter.errors import InputError
from hpcfilter.scores.el2n import el2n
from hpcfilter.scores.loss import loss
from hpcfilter.scores.margin import margin
from hpcfilter.scores.state import Scores

__all__ = ["SCORES", "Scores", "score_function"]

SCORES = {function.__name__: function for function in (loss, el2n, margin)}


def score_function(name, dataset):
    """The score that `score.name` names. Raises InputError when it is unknown or needs classes that the data set lacks."""
    function = choose(SCORES, name, "score.name")
    if function.needs_classes and not dataset.classes:
        free = ", ".join(n for n, f in SCORES.items() if not f.needs_classes)
        raise InputError(f"score.name: {name} needs class labels, {dataset.path} has {dataset.target}; scores without: {free}")
    return function
