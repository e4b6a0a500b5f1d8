"""`hpcfilter jobs stage`: a packed file on a node's own storage, brought or checked by one process per node.

Every block is checked against the seal when it is read from the source, and again as the node's disk gives it
back: damage is found where it is. A copy of a part is as long as the whole file, so that every row stands
where it stood; what the node's ranks do not need are holes in it.
"""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from hpcfilter.base.errors import Failure, InputError
from hpcfilter.base.paths import check_output, expanded
from hpcfilter.data.distrust import damage
from hpcfilter.data.packed import open_packed
from hpcfilter.data.seal import damaged
from hpcfilter.jobs.stage.archive import unpack
from hpcfilter.jobs.stage.node_disk import check_folder, failing_disk, given_back_wrong, node_disk, replacing

TRIES = 2  # times that a block is written before the disk is given up


def stage(source, dest, method="copy", node=0, part=None):
    """Bring a packed file to this node's own storage, or check one that is there.

    source: path of the packed file, or of the archive that holds it. dest: path on the node; variables of the
    environment are expanded in it. method: "copy"; "tar", out of an archive, compressed or not; "check", of a
    file that something else has brought. node: this node's number in the job. part: (nodes, ranks per node),
    to copy only the blocks that the ranks of this node need in shard order. Returns a line for the log.
    Raises InputError for a source that is damaged or does not fit, Failure for a node whose disk is full or
    does not give back what was written. `dest` is replaced by a file that is whole, or stays as it was.
    """
    began = time.monotonic()
    try:
        path = Path(expanded(dest))
    except ValueError:
        raise InputError(f"{dest}: got {dest} on {socket.gethostname()}: "
                         "a variable in it is not set there") from None
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected the path of a file")
    if part and method != "copy":
        raise InputError(f"part: got method {method}, expected copy: a part is taken out of the packed "
                         "file itself")
    if method == "copy":
        did, count, size = _copy(source, path, node, part)
    elif method == "tar":
        if path.exists():
            check_output(path, [source], "DEST")
        did, count, size = _unpack(source, path)
    elif method == "check":
        did, count, size = _check(source, path)
    else:
        raise InputError(f"method: got '{method}', expected copy, tar or check")
    seconds = time.monotonic() - began
    return (f"node {node} ({socket.gethostname()}): {path}: {did} {count} of {size} bytes of {source} "
            f"in {seconds:.1f} s, {count / seconds / 1e9:.2f} GB/s")


def _copy(source, dest, node, part):
    """Returns (what was done, bytes that the node needs, bytes of the whole), as `_unpack`
    and `_check` do."""
    dataset = open_packed(source)
    seal = dataset.seal
    blocks = [seal.blocks[0], *_needed(dataset, node, *part)] if part else seal.blocks
    count = sum(stop - start for start, stop in map(seal.span, blocks))
    with suppress(Failure):
        _compare(dest, dataset, blocks)
        return "kept what was there, checked", count, seal.size
    with replacing(dest, seal.size, count) as new:
        wrong = blocks
        for _ in range(TRIES):
            with open(new, "r+b") as file:
                for number, data in _read(dataset, wrong):
                    file.seek(seal.span(number)[0])
                    file.write(data)
            wrong = list(given_back_wrong(new, seal, wrong))
            if not wrong:
                break
        else:
            raise failing_disk(dest, seal, wrong[0])
    return "copied", count, seal.size


def _needed(dataset, node, nodes, ranks_per_node):
    """The blocks that the ranks of a node need in shard order. Returns int64 (m,)."""
    if not 0 <= node < nodes or ranks_per_node < 1:
        raise InputError(f"part: got node {node} of {nodes} with {ranks_per_node} ranks, "
                         "expected one process on each node of the training")
    dataset.check_ranks(nodes * ranks_per_node)
    return dataset.blocks(node * ranks_per_node, (node + 1) * ranks_per_node, nodes * ranks_per_node)


def _unpack(source, dest):
    size = unpack(source, dest)
    return "unpacked", size, size


def _check(source, dest):
    dataset = open_packed(source)
    with node_disk(dest):
        check_folder(dest.parent)
    _compare(dest, dataset, dataset.seal.blocks)
    return "checked", dataset.seal.size, dataset.seal.size


def _compare(dest, dataset, blocks):
    """Check that `dest` has these blocks of a packed file. Raises Failure; InputError when it is the packed
    file that is damaged."""
    seal = dataset.seal
    with node_disk(dest):
        if (size := os.path.getsize(dest)) != seal.size:
            raise Failure(f"{dest}: got {size} bytes, expected {seal.size}, as {dataset.path} has")
        for number in given_back_wrong(dest, seal, blocks):
            list(_read(dataset, [number]))
            start, stop = seal.span(number)
            raise Failure(f"{dest}: bytes {start} to {stop - 1} differ from those of {dataset.path}: "
                          "the copy is damaged, or of another file")


def _read(dataset, blocks):
    """Read blocks of a packed file. Yields (number, bytes). Raises InputError for one that is damaged."""
    with damage(dataset.path), open(dataset.path, "rb") as file:
        for number in blocks:
            data, fits = dataset.seal.read(file, number)
            if not fits:
                raise damaged(dataset.path, *dataset.seal.span(number), dataset.inside)
            yield number, data
