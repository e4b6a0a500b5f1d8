"""Points of a slice, divided among the ranks: each is looked at as a whole by one rank, and goes to
the file as it comes."""

from contextlib import nullcontext

import numpy as np

from hpcfilter.record.progress import progress


def empty(names, shape):
    """Arrays of points that nobody has looked at. Returns name -> float64 array of NaN."""
    return {name: np.full(shape, np.nan) for name in names}


def shown(total, title, comm):
    """`record.progress` on rank 0, nothing elsewhere. total: None where nobody knows it."""
    return progress(total, title) if comm.rank == 0 else nullcontext(lambda steps=1: None)


def look_at(arrays, look, comm, save, title):
    """Fill in what is NaN, round by round; all ranks get all values, and all must call.

    arrays: list of float64 arrays of one shape, the same on all ranks, changed in place. look: function of a
    point's place in them (a tuple of int) that gives its values, one per array, by this rank alone.
    save: called by all ranks after each round. title: of the progress bar. What is not a number, as where the
    network has diverged, becomes infinite.
    """
    todo = [tuple(int(side) for side in place) for place in np.argwhere(np.isnan(arrays[0]))]
    with shown(len(todo), title, comm) as advance:
        for start in range(0, len(todo), comm.size):
            places = todo[start : start + comm.size]
            mine = np.array([look(place) for place in places[comm.rank : comm.rank + 1]],
                            np.float64).reshape(-1, len(arrays))
            for place, values in zip(places, np.concatenate(comm.allgather(mine)), strict=True):
                for array, value in zip(arrays, values, strict=True):
                    array[place] = np.inf if np.isnan(value) else value
            save()
            advance(len(places))
