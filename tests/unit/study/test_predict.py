"""The alpha-beta model: the formulas in closed form, their limits, and a fit that finds what
made the measurements."""

import numpy as np
import pytest

from hpcfilter.base.errors import InputError
from hpcfilter.study.predict import (
    Link,
    Step,
    epoch_seconds,
    fit,
    hierarchical,
    ring,
    selection_seconds,
    tree,
    ways,
)

LINK = Link(2e-6, 4.2e9)  # 25 GB/s per node of 6 GPUs
RESNET = 102e6  # bytes of gradients


def test_ring_in_closed_form():
    assert ring(1000, 1, LINK) == 0
    assert ring(8e6, 4, Link(1e-6, 1e9)) == pytest.approx(6 * (1e-6 + 2e-3))
    assert (ring(RESNET, 512, LINK) == pytest.approx(0.051, rel=0.02)
            and ring(RESNET, 27_600, LINK) == pytest.approx(0.159, rel=0.02))


def test_hierarchical_does_not_collapse():
    at_scale = hierarchical(RESNET, 4608, 6, Link(2e-6, 50e9), Link(2e-6, 25e9))
    assert at_scale < ring(RESNET, 27_648, LINK) / 4
    assert hierarchical(RESNET, 1, 6, Link(0, 50e9),
                        Link(0, 25e9)) == pytest.approx(2 * 5 / 6 * RESNET / 50e9), "one node: a ring inside"


def test_tree_grows_with_the_logarithm():
    assert tree(0, 27_648, LINK) == pytest.approx(2 * 15 * 2e-6) and tree(1e6, 1, LINK) == 0
    assert tree(0, 1024, LINK) - tree(0, 512, LINK) == pytest.approx(2 * 2e-6)
    best = min(2 * (10 + pieces - 1) * (2e-6 + 1e6 / pieces / 4.2e9) for pieces in range(1, 1000))
    assert tree(1e6, 1024, LINK) == pytest.approx(best, rel=0.06), "as good as the best number of pieces"


def test_packed_ranks_share_a_node():
    inside, between = Link(1e-6, 50e9), Link(2e-6, 25e9)
    one = ways(1e6, 1, 6, inside, between)
    assert one["flat ring"] == one["hierarchical"] == pytest.approx(ring(1e6, 6, inside)), (
        "nothing leaves a node that is alone")
    many = ways(1e8, 4608, 6, inside, between)
    assert many["flat ring"] == ring(1e8, 27_648, between) and many["hierarchical"] < many["flat ring"] / 2


def test_a_flat_ring_falls_off_at_scale():
    """ResNet-50, 64 samples per GPU in 53 ms, of which the backward pass hides 90 %: the published
    fall of the flat ring."""
    step = Step(0.053 / 3, 2 * 0.053 / 3)
    flat = step.efficiency(ring(RESNET, np.array([512, 6144, 27_600]), LINK))
    assert flat[0] > 0.6 and flat[2] < 0.45 and flat[2] < flat[1] < flat[0]
    assert step.efficiency(hierarchical(RESNET, 4600, 6, Link(2e-6, 50e9), Link(2e-6, 25e9))) > 0.9


def test_filtering_cuts_steps_and_traffic():
    step = Step(0.02, 0.04, rest=0.01, fixed=0.03)
    whole, filtered = (epoch_seconds(1_281_167, share, 8192, step, 0.036) for share in (0.0, 0.3))
    assert whole == pytest.approx(1_281_167 / 8192 * 0.07 + 157 * 0.03, rel=1e-6)
    assert filtered == pytest.approx(0.7 * 1_281_167 / 8192 * 0.07 + 110 * 0.03, rel=1e-6)
    assert step.exposed(0.046) == pytest.approx(0.04), "90 % of the backward pass hides 36 ms"
    alone = [epoch_seconds(1000, share, 10_000, step, 0.0) for share in (0.0, 0.3)]
    assert alone == [pytest.approx(0.1 * 0.07 + 0.03), pytest.approx(0.07 * 0.07 + 0.03)], "one short step"


def test_a_filter_pays_for_its_messages():
    few, many = (selection_seconds(ranks, LINK) for ranks in (64, 27_648))
    assert few < 1e-3 and many == pytest.approx(2 * 27_647 * 2e-6, rel=0.02), "the all-to-all counts ranks"


SIZES = 2.0 ** np.arange(10, 27)


def made_of(*lines):
    """Times by size of a machine that changes its protocol at 64 KiB and 4 MiB."""
    which = np.minimum(np.searchsorted([65536, 4 << 20], SIZES, side="right"), len(lines) - 1)
    a, b = np.array(lines)[which].T
    return a + b * SIZES


@pytest.mark.parametrize("lines", [[(1e-5, 1e-9)], [(1e-5, 1e-9), (5e-5, 3e-10)],
                                   [(1e-5, 1e-9), (5e-5, 3e-10), (1e-3, 8e-10)]])
def test_the_fit_finds_the_protocols(lines):
    seconds = made_of(*lines)
    found = fit(SIZES, seconds, 4)
    assert len(found.lines) == len(lines) and np.max(found.error(SIZES, seconds)) < 1e-6


def test_a_noisy_fit_stays_close_and_plain():
    noise = np.random.default_rng(0).normal(1, 0.03, len(SIZES))
    found = fit(SIZES, made_of((1e-5, 1e-9)) * noise, 2)
    assert np.max(found.error(SIZES, made_of((1e-5, 1e-9)))) < 0.08
    link = found.link()
    assert link.latency == pytest.approx(5e-6, rel=0.2) and link.bandwidth == pytest.approx(1e9, rel=0.1)


@pytest.mark.parametrize("size, seconds", [([1, 2], [1, 2]), ([1, 2, 2], [1, 2, 3]), ([1, 2, 3], [1, 0, 3])])
def test_what_cannot_be_fitted(size, seconds):
    with pytest.raises(InputError, match="expected at least 3 of increasing sizes and positive times"):
        fit(size, seconds, 2)
