"""The alpha-beta model of an allreduce (Hockney 1994; Thakur, Rabenseifner and Gropp 2005): a message of n bytes takes alpha + n / bandwidth.

Sizes are bytes, times are seconds. All functions take numpy arrays as well as numbers. Sums of the numbers themselves are free in this model.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Link:
    """A way between two ranks. latency: seconds per message. bandwidth: bytes per second."""

    latency: float
    bandwidth: float


def ring(size, ranks, link):
    """Reduce-scatter and allgather round a ring: 2 (P - 1) messages of n / P bytes. The time grows with the number of ranks."""
    return 2 * (ranks - 1) * (link.latency + np.asarray(size) / ranks / link.bandwidth)


def tree(size, ranks, link):
    """Up and down a double binary tree, pipelined (Sanders, Speck and Traeff 2009): 2 log2 P latencies, and every byte twice through a link."""
    depth = np.ceil(np.log2(ranks))
    return 2 * depth * link.latency + np.where(np.asarray(ranks) > 1, 2 * np.asarray(size) / link.bandwidth, 0.0)


def hierarchical(size, nodes, per_node, inside, between):
    """Reduce-scatter inside each node, one ring between the nodes for each of its ranks, allgather inside.

    inside, between: Link. The bandwidth of `between` is that of a whole node, which its ranks share.
    """
    share = np.asarray(size) / per_node
    own = Link(between.latency, between.bandwidth / per_node)
    return 2 * (per_node - 1) * (inside.latency + share / inside.bandwidth) + ring(share, nodes, own)
