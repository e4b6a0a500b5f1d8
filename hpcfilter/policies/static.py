"""The subset of a selection file, the same in every epoch: the last step of score, select, train."""

from pathlib import Path

from hpcfilter.policies.selection import Selection


def static(scores, epoch, seed, comm, *, selection: Path):
    """Train what `selection` (a selection.h5 made by `hpcfilter select`) keeps, at its weights.

    The caller has read this rank's rows of the file into scores.given, since policies touch no files. State: none.
    Biased towards the kept samples, unless the file's weights make up for it.
    """
    return Selection(scores.given["keep"], scores.given["weight"])


static.needs_classes = False
