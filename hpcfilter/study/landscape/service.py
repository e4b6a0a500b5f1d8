"""An iteration that rank 0 leads alone, and that all ranks serve with products of a matrix
that they share."""

import numpy as np

from hpcfilter.base.errors import InputError, Refusal

NOT_FINITE = ("probe: curvature: got a Hessian that is not finite, expected a loss with finite second "
              "derivatives; leave it out of --what")


def served(work, product, size, comm):
    """What `work` makes on rank 0 of products that all ranks compute together. All ranks must call.

    Rank 0 alone decides which product is the next and which the last: rounding differs from rank to rank, and
    must not part them. The vectors that an iteration keeps are in its memory only.

    work: function of a function like `product`; gives a small Python object. product: function of a vector
    float64 (size,), the same on all ranks, which all must call; gives another. Returns on all ranks what
    `work` has given. Raises on all ranks what it refuses, and InputError for a product that is not finite.
    """
    def ask(vector):
        comm.bcast(True)
        found = product(comm.sum(vector))  # a sum, as `bcast` is for small objects
        if not np.isfinite(found).all():
            raise InputError(NOT_FINITE)
        return found

    result = refusal = None
    if comm.rank == 0:
        try:
            result = work(ask)
        except Refusal as error:
            refusal = error
        comm.bcast(False)
    else:
        while comm.bcast(None):
            product(comm.sum(np.zeros(size)))

    def outcome():
        if refusal:
            raise refusal
        return result

    return comm.on_first(outcome)
