"""`hpcfilter select`: one exact global threshold on a score table. Needs no torch."""

from pathlib import Path

import numpy as np

from hpcfilter.base.errors import InputError, on_all
from hpcfilter.base.paths import check_output
from hpcfilter.base.shares import share
from hpcfilter.data import read_table
from hpcfilter.data.table import is_table
from hpcfilter.select.threshold import cut
from hpcfilter.study.offline.tables import write


def select(scores_path, comm, fraction, output=None, highest=0.0):
    """Hide the floor(fraction * N) samples of lowest importance of a score table for good, and the
    floor(highest * N) of highest: two exact global thresholds. All ranks must call.

    scores_path: table with a column importance. fraction, highest: hidden shares, less than 1 together.
    output: path, default selection.h5 beside the table. Returns (path, description: dict). Raises
    InputError on all ranks.
    """
    output = output or Path(scores_path).with_name("selection.h5")
    comm.on_first(lambda: check_output(output, [scores_path], mine=is_table, what="table of hpcfilter"))
    output = Path(output)
    with comm.together():
        for name, value in (("fraction", fraction), ("highest", highest),
                            ("fraction and highest together", fraction + highest)):
            if not 0 <= value < 1:
                raise InputError(f"select: {name}: got {value}, expected within [0, 1)")
        columns, about, rows = read_table(scores_path, part=(comm.rank, comm.size))
        if "importance" not in columns or columns["importance"].ndim > 1 or "data" not in about:
            raise InputError(f"{scores_path}: not a score table: got the columns {', '.join(columns)}, "
                             "expected importance")
        if comm.size > rows:
            raise InputError(f"{scores_path}: got {comm.size} ranks for {rows} samples, expected at most one "
                             "rank per sample")
    importance = columns["importance"]
    hidden, threshold = cut(importance, share(fraction, rows), comm)
    hard, top = cut(np.where(hidden, np.float32(np.nan), -importance), share(highest, rows), comm)
    hidden |= hard
    kept, wanted = (rows - int(comm.sum(np.count_nonzero(hidden))),
                    share(fraction, rows) + share(highest, rows))
    if rows - kept < wanted:
        raise on_all(f"{scores_path}: {rows - kept} of {rows} samples have an importance, expected at least "
                     f"the {wanted} that are to be hidden")
    about = {"policy": "static", "parameters": {"fraction": fraction, "highest": highest}, "kept": kept,
             "score": about.get("score", "unknown"), "threshold": threshold, "highest threshold": -top,
             "data": about["data"]}
    write(output, rows, {"keep": (~hidden).astype(np.uint8), "weight": np.ones(len(hidden), np.float32)},
          about, comm)
    return output, about
