"""The progress of long work: a bar on a terminal, lines in a log."""

import sys
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress(total, what):
    """Show the progress of `total` steps: a bar on a terminal, a plain line per tenth in a log.
    Yields advance(steps=1)."""
    if sys.stderr.isatty():
        with tqdm(total=total, desc=what, unit_scale=True, leave=False) as bar:
            yield bar.update
        return
    done = shown = 0

    def advance(steps=1):
        nonlocal done, shown
        done += steps
        if total and done * 10 // total > shown:
            shown = done * 10 // total
            print(f"{what}: {done} of {total} ({100 * done // total} %)", file=sys.stderr, flush=True)

    yield advance
