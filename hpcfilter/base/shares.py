"""Shares of a whole, as configs give them and as whole numbers of samples."""

import fractions
import math
from typing import Annotated

from pydantic import Field

Fraction = Annotated[float, Field(ge=0, lt=1)]  # a share of the samples that may be hidden
Count = Annotated[int, Field(ge=1)]


def share(fraction, total, factor=1.0):
    """How many samples a fraction of `total` is: floor of the exact product of the numbers as written, so
    that 0.29 of 100 is 29."""
    return math.floor(_exact(fraction) * _exact(factor) * total)


def share_up(fraction, total):
    """The same, rounded up."""
    return math.ceil(_exact(fraction) * total)


def _exact(number):
    return fractions.Fraction(repr(float(number)))
