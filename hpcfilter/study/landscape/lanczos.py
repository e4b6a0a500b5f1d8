"""The largest eigenvalues of a symmetric matrix that is known by its products with vectors alone."""

import inspect

import numpy as np
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

from hpcfilter.base.errors import InputError
from hpcfilter.base.randomness import uniform

RESTARTS = 50


def largest(product, size, number, seed, tolerance):
    """The largest eigenvalues with their vectors, by the Lanczos method (implicitly restarted: ARPACK,
    Lehoucq, Sorensen and Yang 1998).

    product: function of a vector float64 (size,), the matrix times it. number: less than size. tolerance: of
    an eigenvector's residual, as a share of its eigenvalue. All that is random is a function of the seed.
    Returns (values float64 (k,), descending, vectors (size, k)), with k less than `number` when some have not
    converged after RESTARTS restarts. Raises InputError when the method breaks down.
    """
    start = uniform(seed, 0, np.arange(size), 1, "lanczos")[:, 0] - 0.5
    if not product(start).any():  # of what is 0 ARPACK makes an error
        return np.zeros(number), np.eye(size, number)
    operator = LinearOperator(
        (size, size), matvec=lambda vector: product(np.ascontiguousarray(vector, np.float64).reshape(-1)),
        dtype=np.float64)
    # SciPy 1.17 and later draw from the system when the vectors of the start are used up, older
    # ones always draw the same
    fixed = {"rng": seed} if "rng" in inspect.signature(eigsh).parameters else {}
    try:
        values, vectors = eigsh(operator, number, which="LA", v0=start, tol=tolerance,
                                maxiter=RESTARTS, **fixed)
    except ArpackNoConvergence as error:
        values, vectors = error.eigenvalues, error.eigenvectors
    except ArpackError as error:
        raise InputError(f"probe: the Lanczos method breaks down on a matrix of {size} rows: "
                         f"{' '.join(str(error).split())}") from None
    order = np.argsort(values)[::-1]
    return values[order], vectors[:, order]
