"""The Hessian of the mean loss: its largest eigenvalues, and its trace. Its products with vectors are
shared among the ranks."""

import numpy as np

from hpcfilter.base.errors import on_all
from hpcfilter.base.randomness import hash64
from hpcfilter.study.landscape.lanczos import largest
from hpcfilter.study.landscape.points import shown
from hpcfilter.study.landscape.service import NOT_FINITE, served

TOLERANCE = 1e-3  # of the eigenvectors, relative; the error of an eigenvalue is of second order in it


def curvature(weights, loss, found, options, seed, comm, save, title):
    """Eigenvalues (k,) with their residuals (k,), trace and trace_error. All ranks must call. Raises
    InputError on all ranks.

    found: dict of the set, in which they are filled in, and trace_terms float64 (options.probes,), NaN where
    it is still to come; what is there is not computed again. save: function of `now`, called by all ranks
    after each. title: of the progress bars.
    """
    if weights.size < 2:
        raise on_all(f"probe: got a model of {weights.size} weights that train, expected two or more")
    if "eigenvalues" not in found:
        with shown(None, f"{title}: eigenvalues", comm) as advance:
            def product(vector):
                advance()
                return loss.product(vector)

            lead = lambda ask: eigenvalues(ask, weights.size, options.eigenvalues, seed)  # noqa: E731
            found["eigenvalues"], found["residuals"] = served(lead, product, weights.size, comm)
        save(now=True)
    terms = found.setdefault("trace_terms", np.full(options.probes, np.nan))
    todo = np.flatnonzero(np.isnan(terms))
    with shown(len(todo), f"{title}: trace", comm) as advance:
        for number in map(int, todo):
            terms[number] = loss.curve(signs(weights.size, seed, number))
            if not np.isfinite(terms[number]):
                raise on_all(NOT_FINITE)
            save(now=False)
            advance()
    found["trace"], found["trace_error"] = hutchinson(terms)


def eigenvalues(product, size, number, seed):
    """The largest eigenvalues of a symmetric matrix of `size` rows. product, seed: as in `lanczos.largest`.

    Returns (values float64 (k,), descending, residuals ||H v - value v|| float64 (k,)), k =
    min(number, size - 1); NaN where one has not converged.
    """
    number = min(number, size - 1)
    values, vectors = largest(product, size, number, seed, TOLERANCE)
    found = np.full((2, number), np.nan)
    for place, (value, vector) in enumerate(zip(values, vectors.T, strict=True)):
        found[:, place] = value, np.linalg.norm(product(vector.copy()) - value * vector)
    return found[0], found[1]


def hutchinson(terms):
    """The trace of a symmetric matrix: the mean of z^T H z over vectors z of random signs (Hutchinson 1990;
    Rademacher's have the least variance).

    terms: float64 (m,), z^T H z of each, m > 1. Returns (trace, its standard error).
    """
    return float(terms.mean()), float(terms.std(ddof=1) / np.sqrt(len(terms)))


def signs(size, seed, number):
    """Random signs, a function of (seed, number). Returns float64 (size,) of -1 and 1."""
    return 1.0 - 2.0 * (hash64(seed, number, np.arange(size), "rademacher") >> np.uint64(63))
