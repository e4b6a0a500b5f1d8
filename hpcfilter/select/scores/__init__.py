"""What a sample is worth. A score looks at a batch and remembers over the epochs; it never communicates.

Direction, once and for all: higher = more worth training. A new score is a class in one file
and an entry in SCORES.
"""

from hpcfilter.base.errors import InputError, OwnCode
from hpcfilter.base.own import a, call, imported, place
from hpcfilter.base.registry import bind, choose
from hpcfilter.select.scores.centroid import Centroid
from hpcfilter.select.scores.dyn_unc import DynUnc
from hpcfilter.select.scores.error import EL2N, Confidence, GraNd
from hpcfilter.select.scores.forgetting import Forgetting
from hpcfilter.select.scores.loss import BatchLoss, Difference, Ema, Evolved, Loss
from hpcfilter.select.scores.margin import AUM, Margin
from hpcfilter.select.scores.score import Score
from hpcfilter.select.scores.state import Scores

__all__ = ["SCORES", "Score", "Scores", "make_score"]

SCORES = {"loss": Loss, "ema": Ema, "difference": Difference, "batch_loss": BatchLoss, "evolved": Evolved,
          "el2n": EL2N, "grand": GraNd, "confidence": Confidence, "margin": Margin, "aum": AUM,
          "forgetting": Forgetting, "dyn_unc": DynUnc, "centroid": Centroid}


def make_score(name, parameters, classes, target, default="loss"):
    """The score that `score.name` names, with its parameters. name: "auto" for the default, a name,
    or package.module:class.

    classes: how many the data set has, 0 for none. target: what the data set has, in words. Raises InputError
    when the score is unknown, a parameter is wrong, or it needs classes and there are none.
    """
    name = default if name == "auto" else name
    kind = imported(name, "score.name") if ":" in name else choose(SCORES, name, "score.name")
    if not (isinstance(kind, type) and issubclass(kind, Score)):
        raise OwnCode(f"score.name: got {a(kind)}, expected a class made from hpcfilter.Score{place(kind)}")
    if kind.needs_classes and not classes:
        free = ", ".join(n for n, k in SCORES.items() if not k.needs_classes)
        raise InputError(f"score.name: {name} needs class labels, got {target}; scores without: {free}")
    parameters = bind(kind, parameters, "score")
    score = call("score.name", "a class with keyword-only parameters", kind, **parameters)
    score.name, score.parameters = name, parameters
    return score
