"""The Hessian of the mean loss: its largest eigenvalues, and its trace. Its products with vectors are sharded over the ranks."""

import numpy as np

from hpcfilter.errors import on_all
from hpcfilter.landscape.lanczos import largest
from hpcfilter.landscape.points import shown
from hpcfilter.randomness import hash64


def curvature(weights, loss, options, seed, comm, title):
    """Returns a dict: eigenvalues (k,), residuals (k,), trace and trace_error. All ranks must call. Raises InputError on all ranks.

    title: of the progress bars.
    """
    if weights.size < 2:
        raise on_all(f"probe: got a model of {weights.size} weights that train, expected two or more")
    with shown(None, f"{title}: eigenvalues", comm) as advance:
        def product(vector):
            advance()
            return loss.product(vector)

        values, residuals = eigenvalues(product, weights.size, options.eigenvalues, seed)
    with shown(options.probes, f"{title}: trace", comm) as advance:
        trace, error = hutchinson(lambda vectors: loss.curve(_counted(vectors, advance)), weights.size, options.probes, seed)
    return {"eigenvalues": values, "residuals": residuals, "trace": trace, "trace_error": error}


def eigenvalues(product, size, number, seed):
    """The largest eigenvalues of a symmetric matrix of `size` rows. product, seed: as in `lanczos.largest`.

    Returns (values float64 (k,), descending, residuals ||H v - value v|| float64 (k,)), k = min(number, size - 1); NaN where one has not converged.
    """
    number = min(number, size - 1)
    values, vectors = largest(product, size, number, seed)
    found = np.full((2, number), np.nan)
    for place, (value, vector) in enumerate(zip(values, vectors.T, strict=True)):
        found[:, place] = value, np.linalg.norm(product(vector.copy()) - value * vector)
    return found[0], found[1]


def hutchinson(curve, size, number, seed):
    """The trace of a symmetric matrix: the mean of z^T H z over vectors z of random signs (Hutchinson 1990; Rademacher's have the least variance).

    curve: function of an iterable of vectors (size,), giving z^T H z of each. Returns (trace, its standard error).
    """
    found = curve(signs(size, seed, vector) for vector in range(number))
    return float(found.mean()), float(found.std(ddof=1) / np.sqrt(number))


def _counted(items, advance):
    for item in items:
        yield item
        advance()


def signs(size, seed, number):
    """Random signs, a function of (seed, number). Returns float64 (size,) of -1 and 1."""
    return 1.0 - 2.0 * (hash64(seed, number, np.arange(size), "rademacher") >> np.uint64(63))
