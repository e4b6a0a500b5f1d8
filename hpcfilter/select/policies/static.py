"""A subset that stays: of a selection file, or cut once in the run (Paul et al., arXiv 2107.07075, with the score EL2N or GraNd)."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from hpcfilter.base.shares import Count, Fraction, share_up
from hpcfilter.select.policies.ranking import hide_for_good
from hpcfilter.select.policies.selection import Selection


def static(scores, epoch, seed, comm, *, epochs: Count | None = None, selection: Path | None = None, fraction: Fraction = 0.3,
           after: Annotated[float, Field(gt=0, lt=1)] = 0.1, per_class: bool = False):
    """Train what `selection` keeps, at its weights: a selection.h5 made by `hpcfilter select`, whose rows the caller has put into scores.given,
    since policies touch no files. Without one, hide the floor(fraction * N) lowest scores for good once `after * epochs` epochs are over; only that
    needs to know the epochs of the training.

    State: none; the scores stay as they were when the cut was made. Biased towards the kept samples, unless the file's weights make up for it.
    """
    if "keep" in scores.given:
        return Selection(scores.given["keep"], scores.given.get("weight"))
    if epoch < share_up(after, epochs):
        return Selection(np.ones(len(scores.owned), bool))
    hidden, threshold = hide_for_good(scores, scores.importance, fraction, comm, per_class)
    return Selection(~hidden, threshold=threshold, frozen=True)


def _cuts_after(parameters):
    cuts = parameters["selection"] is None and parameters["fraction"] and parameters["epochs"] is not None
    return share_up(parameters["after"], parameters["epochs"]) if cuts else None


def _cuts_in_time(parameters):
    after, epochs = _cuts_after(parameters), parameters["epochs"]
    if epochs is None and parameters["selection"] is None:
        return "filter.epochs: missing (of static, which without a selection cuts after a share of the epochs)"
    return f"filter.after: got {parameters['after']} of {epochs} epochs, so nothing is ever hidden" if after and after >= epochs else None


static.given, static.problem, static.cuts_after = ("selection", ("keep", "weight")), _cuts_in_time, _cuts_after
