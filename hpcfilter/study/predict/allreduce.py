"""The alpha-beta model of an allreduce (Hockney 1994; Thakur, Rabenseifner and Gropp 2005): a message of n
bytes takes alpha + n / bandwidth.

Sizes are bytes, times are seconds. All functions take numpy arrays as well as numbers. Sums of the numbers
themselves are free in this model.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Link:
    """A way between two ranks. latency: seconds per message. bandwidth: bytes per second."""

    latency: float
    bandwidth: float


def ring(size, ranks, link):
    """Reduce-scatter and allgather round a ring: 2 (P - 1) messages of n / P bytes. The time grows
    with the number of ranks."""
    return 2 * (ranks - 1) * (link.latency + np.asarray(size) / ranks / link.bandwidth)


def tree(size, ranks, link):
    """Up and down a double binary tree, pipelined (Sanders, Speck and Traeff 2009): each way
    (sqrt(depth alpha) + sqrt(n / bandwidth))^2.

    That is the best cut into pieces, of which there are depth - 1 more to wait for than there are pieces.
    """
    depth = np.ceil(np.log2(ranks))
    moved = np.where(np.asarray(ranks) > 1, np.asarray(size) / link.bandwidth, 0.0)
    return 2 * (np.sqrt(depth * link.latency) + np.sqrt(moved)) ** 2


def hierarchical(size, nodes, per_node, inside, between):
    """Reduce-scatter inside each node, one ring between the nodes for each of its ranks, allgather inside.

    inside, between: Link. The bandwidth of `between` is that of a whole node, which its ranks share.
    """
    share = np.asarray(size) / per_node
    own = Link(between.latency, between.bandwidth / per_node)
    return 2 * (per_node - 1) * (inside.latency + share / inside.bandwidth) + ring(share, nodes, own)


def ways(size, nodes, per_node, inside, between):
    """All three on packed ranks: neighbours share a node, so a flat ring crosses a node's network once in
    each direction. Returns name -> seconds."""
    flat = inside if nodes == 1 else Link(between.latency, min(inside.bandwidth, between.bandwidth))
    ranks = nodes * per_node
    return {"flat ring": ring(size, ranks, flat), "tree": tree(size, ranks, flat),
            "hierarchical": hierarchical(size, nodes, per_node, inside, between)}
