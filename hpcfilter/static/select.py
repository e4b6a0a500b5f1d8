"""`hpcfilter select`: one exact global threshold on a score table. Needs no torch."""

from pathlib import Path

import numpy as np

from hpcfilter.config import share
from hpcfilter.data import read_table, shard
from hpcfilter.errors import InputError
from hpcfilter.static.tables import write
from hpcfilter.threshold import cut


def select(scores_path, comm, fraction, output=None, hide="lowest"):
    """Hide a fraction of the samples of a score table for good, by one exact global threshold. All ranks must call.

    scores_path: table with a column importance. fraction: hidden share, [0, 1). output: path, default selection.h5 beside the table.
    hide: "lowest" or "highest" importance. Returns (path, description: dict). Raises InputError on all ranks.
    """
    output = Path(output or Path(scores_path).with_name("selection.h5"))
    with comm.together():
        if not 0 <= fraction < 1:
            raise InputError(f"select: fraction: got {fraction}, expected within [0, 1)")
        if output.exists() and output.samefile(scores_path):
            raise InputError(f"{output}: the selection would overwrite the scores it is made from; give another --output")
        columns, about, rows = _own_rows(scores_path, comm)
        if "importance" not in columns or "data" not in about:
            raise InputError(f"{scores_path}: not a score table: got the columns {', '.join(columns)}, expected importance")
        if comm.size > rows:
            raise InputError(f"{scores_path}: got {comm.size} ranks for {rows} samples, expected at most one rank per sample")
    importance = columns["importance"]
    hidden, threshold = cut(importance if hide == "lowest" else -importance, share(fraction, rows), comm)
    kept = rows - int(comm.sum(np.count_nonzero(hidden)))
    about = {"policy": "static", "parameters": {"fraction": fraction, "hide": hide}, "kept": kept, "score": about.get("score", "unknown"),
             "threshold": threshold if hide == "lowest" else -threshold, "data": about["data"]}
    write(output, rows, {"keep": (~hidden).astype(np.uint8), "weight": np.ones(len(hidden), np.float32)}, about, comm)
    return output, about


def _own_rows(path, comm):
    """read_table of the rows that this rank owns."""
    rows = read_table(path, range(0))[2]
    return read_table(path, shard(rows, comm.rank, comm.size))
