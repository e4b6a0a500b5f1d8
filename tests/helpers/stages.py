"""What the tests of staging share: the nodes and ranks of a job, what becomes of a file and its folder, and a
part of a file for each node."""

import os

from hpcfilter.data import open_packed
from hpcfilter.data.seal import read_seal
from hpcfilter.jobs.stage.stage import stage

NODES, PER_NODE = 2, 2
RANKS = NODES * PER_NODE


def flip(path, where):
    with open(path, "r+b") as file:
        file.seek(where)
        byte = file.read(1)[0]
        file.seek(where)
        file.write(bytes([byte ^ 1]))


def beside(path):
    """The names in the folder of a file."""
    return sorted(os.listdir(path.parent)) if path.parent.exists() else []


def staged_part(vectors, folder):
    """A part for each node, in FOLDER/nodeN/packed.h5, with every byte that is a hole made 0xff."""
    for number in range(NODES):
        path = folder / f"node{number}" / "packed.h5"
        stage(vectors, path, "copy", number, (NODES, PER_NODE))
        seal, held = (read_seal(path),
                      set(open_packed(vectors).blocks(number * PER_NODE, (number + 1) * PER_NODE, RANKS)))
        with open(path, "r+b") as file:
            for block in set(range(len(seal.sums))) - held:
                start, stop = seal.span(block)
                file.seek(start)
                file.write(b"\xff" * (stop - start))
    return folder
