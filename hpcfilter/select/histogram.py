"""How the importance of all samples is spread, and which part of it is hidden: what a report
shows of a selection."""

import numpy as np

BINS = 60
FINE = 1e-6  # importances below it are told apart evenly, larger ones by their ratio


def histogram(importance, hidden, comm):
    """Counts of the samples of all ranks by importance. All ranks must call.

    importance: float32 (n_local,), NaN = not known. hidden: bool (n_local,). Returns a dict: edges, BINS + 1
    floats from the least to the greatest finite importance, even in asinh(importance / FINE); counts and
    hidden, BINS ints each, with +inf in the last bin; unknown, how many are NaN.
    """
    known = ~np.isnan(importance)
    finite = importance[np.isfinite(importance)].astype(np.float64)
    low, high = comm.max(np.array([-finite.min(), finite.max()] if finite.size
                                  else [-np.inf, -np.inf])) * [-1, 1]
    low, high = (low, high) if low < high else (low, low + 1) if np.isfinite(low) else (0.0, 1.0)
    edges = np.sinh(np.linspace(np.arcsinh(low / FINE), np.arcsinh(high / FINE), BINS + 1)) * FINE
    where = np.clip(np.searchsorted(edges, importance[known], side="right") - 1, 0, BINS - 1)
    counts = [np.bincount(where, minlength=BINS), np.bincount(where[hidden[known]], minlength=BINS)]
    counts, hidden = comm.sum(np.array(counts, np.int64))
    unknown = int(comm.sum(np.count_nonzero(~known)))
    return {"edges": edges.tolist(), "counts": counts.tolist(), "hidden": hidden.tolist(), "unknown": unknown}
