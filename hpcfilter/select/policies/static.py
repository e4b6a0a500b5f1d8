"""A subset that stays: of a selection file, or cut once in the run (Paul et al., arXiv 2107.07075, with the
score EL2N or GraNd)."""

from pathlib import Path

from hpcfilter.base.shares import Fraction
from hpcfilter.select.policies.policy import policy
from hpcfilter.select.policies.ranking import hide_for_good
from hpcfilter.select.policies.selection import Selection


def _cuts(parameters):
    return bool(parameters["selection"] is None and parameters["fraction"])


@policy(given=("selection", ("keep", "weight")), once=_cuts)
def static(scores, epoch, seed, comm, *, selection: Path | None = None, fraction: Fraction = 0.3,
           per_class: bool = False):
    """Train what `selection` keeps, at its weights: a selection.h5 made by `hpcfilter select`, whose rows the
    caller has put into scores.given, since policies touch no files. Without one, hide the floor(fraction * N)
    lowest scores for good, as earlier phases have shown them.

    State: none; the scores stay as they were when the cut was made. Biased towards the kept samples, unless
    the file's weights make up for it.

    Take it when you have chosen the samples already, or want one smaller data set for a whole training. It
    costs no message and no score with a selection file.
    """
    if "keep" in scores.given:
        return Selection(scores.given["keep"], scores.given.get("weight"))
    hidden, threshold = hide_for_good(scores, scores.importance, fraction, comm, per_class)
    return Selection(~hidden, threshold=threshold, frozen=True)
