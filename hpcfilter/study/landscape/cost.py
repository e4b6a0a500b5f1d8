"""What a probe is going to cost, said before it begins."""

import numpy as np

from hpcfilter.study.landscape import barrier

# products that they take in a usual network; how many it really takes is known only afterwards
EIGENVALUES = 30
# forward passes that a product with the Hessian has the arithmetic of; a small network,
# bound by calls, takes longer
PRODUCT = 6


def cost(options, sizes, found, names):
    """One line: points, products and passes over the samples that are still to come; "" when nothing is.

    options: Options. sizes: name of a set -> its samples. found: name -> dict, what is there already.
    names: of the sets that are measured.
    """
    points, products = ({name: count(options, found[name]) for name in names}
                        for count in (_points, _products))
    if not sum(points.values()) + sum(products.values()):
        return ""
    passes = sum((points[name] + PRODUCT * products[name]) * sizes[name] for name in names) / sizes["full"]
    return (f"probe: {sum(points.values())} points and about {sum(products.values())} Hessian products to "
            f"come: {passes:.0f} forward passes or more over {sizes['full']} samples, "
            f"shared by the ranks{'' if options.samples else '; --samples N makes it less'}")


def _points(options, found):
    wanted = ({"slice1d": options.directions * options.points, "slice2d": options.grid**2}
              if options.wants("slices") else {})
    wanted |= {"barrier": barrier.POINTS} if options.wants("barrier") else {}
    return sum(int(np.isnan(found[part]["loss"]).sum()) if part in found else number
               for part, number in wanted.items())


def _products(options, found):
    if not options.wants("curvature") or "trace" in found:
        return 0
    terms = found.get("trace_terms", np.full(options.probes, np.nan))
    return int(np.isnan(terms).sum()) + ("eigenvalues" not in found) * EIGENVALUES
