"""The selection file: who is kept for good, and at which weight."""

import numpy as np

from hpcfilter.data.table import read_table
from hpcfilter.errors import InputError


def read_selection(path, dataset, owned):
    """The rows of a selection file (made by `hpcfilter select`) that a rank owns. Returns {"keep": bool (n,), "weight": float32 (n,)}.

    Raises InputError for a file of another data set, one that keeps nothing, or one whose values make no sense.
    """
    columns, about, rows = read_table(path, owned)
    if about.get("data") != dataset.digest or rows != len(dataset.train):
        raise InputError(f"{path}: got a selection of data set {about.get('data')} with {rows} samples, "
                         f"expected {dataset.digest} with {len(dataset.train)} ({dataset.path})")
    if not {"keep", "weight"} <= set(columns):
        raise InputError(f"{path}: got the columns {', '.join(columns)}, expected keep and weight")
    if not isinstance(about.get("kept"), int) or about["kept"] < 1:
        raise InputError(f"{path}: got {about.get('kept')} kept samples, expected at least one")
    keep, weight = columns["keep"], columns["weight"].astype(np.float32)
    if not np.isin(keep, (0, 1)).all() or not (np.isfinite(weight) & (weight >= 0)).all():
        raise InputError(f"{path}: expected keep of 0 or 1 and finite weights of 0 or more")
    return {"keep": keep.astype(bool), "weight": weight}
