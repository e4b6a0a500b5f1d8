"""KAKURENBO: hide the samples of lowest loss that are predicted right and surely (Nguyen et al., NeurIPS
2023, arXiv 2310.10102)."""

from typing import Annotated

from pydantic import Field

from hpcfilter.base.shares import Count, Fraction
from hpcfilter.select.policies.policy import policy
from hpcfilter.select.policies.ranking import hide_lowest
from hpcfilter.select.policies.selection import Selection


@policy(needs_classes=True)
def kakurenbo(scores, epoch, seed, comm, *,
              epochs: Count,
              fraction: Fraction = 0.3,
              tau: Annotated[float, Field(ge=0, le=1)] = 0.7,
              factors: Annotated[list[Annotated[float, Field(ge=0, le=1)]],
                                 Field(min_length=1)] = [1.0, 0.8, 0.6, 0.4],  # noqa: B006, read only
              milestones: list[Annotated[float, Field(ge=0, le=1)]] = [1 / 3, 2 / 3, 8 / 9],  # noqa: B006
              per_class: bool = False):
    """Hide at most a fraction F_e of the samples in epoch e.

    Candidates are the floor(F_e N) lowest last losses; a candidate moves back unless it was predicted right
    with a confidence (softmax over the classes) of at least tau. F_e = fraction * factors[m], with m the
    number of `milestones` (shares of `epochs`, default train.epochs) that lie behind, the last factor for all
    further ones; the published schedule is 30/60/80 of 90 epochs. Learning rate base * N / kept once its
    warm-up is over. At the end of the epoch the hidden samples get a forward pass in eval mode, the others
    keep the loss of their training step.

    State: the last loss, correctness and confidence of each sample. Biased: hidden samples are not made up
    for by weights. Never observed samples are never hidden, so nothing is hidden in the first epoch.
    fraction = 0 is the baseline.

    Take it to save passes without a loss of accuracy, when there are classes and many steps. It costs a
    forward pass over the hidden samples in each epoch. It costs accuracy at very large batches, where its
    larger learning rate hurts; lr = "none" turns that off.
    """
    factor = factors[min(sum(epoch >= m * epochs for m in milestones), len(factors) - 1)]
    candidates, threshold = hide_lowest(scores, scores.importance, fraction, comm, per_class, factor)
    moved_back = candidates & ~(scores.correct & (scores.confidence >= tau))
    hidden = candidates & ~moved_back
    return Selection(~hidden, threshold=threshold, lr_rule="kept", moved_back=moved_back, refresh=hidden)

