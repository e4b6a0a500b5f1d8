"""Micro-batches: a step of more samples than fit into memory at once."""

from hpcfilter.base.shares import Count
from hpcfilter.base.trees import each
from hpcfilter.train.passes.plain import Wrapper


class Micro(Wrapper):
    """Samples go forward in equal parts of at most `samples`, whose gradients are added up.

    BatchNorm normalises each part by itself, as on as many ranks, and takes its running statistics from one
    part after the other. samples: per forward pass of a rank.
    """

    def __init__(self, inner, model, exchange, ratios, *, samples: Count):
        super().__init__(inner, model, exchange, ratios)
        self.samples = samples

    def __call__(self, step, parts):
        self.inner(step, [piece for part in parts for piece in self._cut(part)])

    def _cut(self, part):
        """Pieces of a part that are equal but for one sample: BatchNorm needs more than one."""
        x, y, weight = part
        start, pieces = 0, []
        for piece in weight.tensor_split(-(-len(weight) // self.samples)):
            here = slice(start, start + len(piece))
            pieces.append((each(lambda tensor, here=here: tensor[here], x),
                           each(lambda tensor, here=here: tensor[here], y), piece))
            start = here.stop
        return pieces
