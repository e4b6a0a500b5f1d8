"""The tables that a policy works with: who is kept for good and at which weight, or what another network
makes of each sample."""

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.data.table import read_table


def read_given(path, names, owned, total, digest=None, part=(0, 1), blocks=None):
    """The rows of a table (made by `hpcfilter select` or `score`) that a rank owns.

    names: the columns that are wanted. owned: range of global indices. total, digest: of the data set; a
    digest of None is not checked. part: (rank, ranks) that together check the whole file, each its share.
    blocks: of the seal, to check instead.

    Returns name -> array (n,): keep is bool, everything else float32.
    Raises InputError for a file of another data set, one without these columns, one that keeps nothing, or
    one whose values make no sense.
    """
    columns, about, rows = read_table(path, owned, part, blocks)
    if rows != total or digest not in (None, about.get("data")):
        raise InputError(f"{path}: got a table of data set {about.get('data')} with {rows} samples, "
                         f"expected {digest or 'any'} with {total}")
    if not set(names) <= set(columns):
        raise InputError(f"{path}: got the columns {', '.join(columns)}, expected {' and '.join(names)}")
    given = {name: columns[name].astype(np.float32) for name in names}
    if any(values.ndim > 1 for values in given.values()):
        raise InputError(f"{path}: expected one number per sample, got columns of shape "
                         f"{', '.join(str(columns[name].shape) for name in names)}")
    if "keep" in names:
        if not isinstance(about.get("kept"), int) or about["kept"] < 1:
            raise InputError(f"{path}: got {about.get('kept')} kept samples, expected at least one")
        if (not np.isin(given["keep"], (0, 1)).all()
                or not (np.isfinite(given["weight"]) & (given["weight"] >= 0)).all()):
            raise InputError(f"{path}: expected keep of 0 or 1 and finite weights of 0 or more")
        given["keep"] = given["keep"].astype(bool)
    return given
