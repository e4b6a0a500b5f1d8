"""How the tests of `pack` look at what it has made."""

import numpy as np

from hpcfilter.data import open_packed
from hpcfilter.pack.pack import pack


def packed(source, tmp_path, **options):
    """(rows in the order of the source, their labels, the packed file, all that is said)."""
    about = pack(source, tmp_path / "p.h5", replace=True, **options)
    data = open_packed(tmp_path / "p.h5")
    order = np.argsort(np.concatenate([data.train.origin, data.test.origin]))
    rows, labels = (np.concatenate([getattr(split, name) for split in (data.train, data.test)])[order]
                    for name in ("images", "labels"))
    return rows, labels, data, " | ".join([*about["found"]["left_out"], *about["found"]["said"]])
