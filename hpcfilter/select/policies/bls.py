"""BLS: any loss policy on a moving average of batch losses, which need no loss per sample (arXiv
2604.04681, CVPR 2026)."""

from typing import Annotated, Literal

from pydantic import Field

from hpcfilter.base.shares import Count, Fraction
from hpcfilter.select.policies.infobatch import infobatch
from hpcfilter.select.policies.policy import policy
from hpcfilter.select.policies.seta import seta


@policy(score="batch_loss", sums_to_n=lambda parameters: parameters.get("base") != "seta")
def bls(scores, epoch, seed, comm, *, epochs: Count, base: Literal["infobatch", "seta"] = "infobatch",
        r: Fraction | None = None, groups: Count = 5, window: Annotated[float, Field(gt=0, le=1)] = 0.9,
        delta: Annotated[float, Field(ge=0, le=1)] = 0.875):
    """The policy `base` on the score batch_loss, s_i = alpha s_i + (1 - alpha) L_B (the score's alpha, 0.9).

    L_B is the mean loss over the whole global batch, so that it is the same on any number of ranks that train
    the same batches; a sample keeps its own weight. r is 0.5 over infobatch and 0.1 over seta unless given;
    groups and window belong to seta. State: s, 4 B. Unbiased over infobatch, biased over seta. r = 0 is the
    baseline over infobatch.

    Take it when the loss of a batch says enough, with any kind of target. It costs no extra pass.
    """
    if base == "infobatch":
        return infobatch(scores, epoch, seed, comm, epochs=epochs, r=0.5 if r is None else r, delta=delta)
    return seta(scores, epoch, seed, comm, epochs=epochs, r=0.1 if r is None else r, groups=groups,
                window=window, delta=delta)

