"""What to probe, and how finely."""

import math
from dataclasses import asdict, dataclass

from hpcfilter.base.errors import InputError
from hpcfilter.base.names import unknown

PARTS = "curvature", "slices", "map", "sharpness", "barrier"


@dataclass(frozen=True)
class Options:
    """What to probe, and how finely; the same on all ranks. Raises InputError.

    what: names of PARTS; empty: all that apply. other: run folder whose weights the barrier is measured to.
    selection: table that says which samples are kept, instead of the run's policy. samples: of each set at
    most so many are looked at; None: all. span: how far slices go to both sides, 1 = as far as the weights
    are long. points: of a 1-D slice. directions: how many 1-D slices. grid: points of a side of the 2-D
    slice. eigenvalues: how many. probes: random vectors for the trace. rho: radius of the sharpness.
    batch: samples of a forward pass; None: as many as training shows to fit.
    """

    what: tuple = ()
    other: str | None = None
    selection: str | None = None
    samples: int | None = None
    span: float = 1.0
    points: int = 51
    directions: int = 3
    grid: int = 15
    eigenvalues: int = 5
    probes: int = 32
    rho: float = 0.05
    batch: int | None = None

    def __post_init__(self):
        for name in self.what:
            if name not in PARTS:
                raise InputError(f"probe: --what: {unknown(name, PARTS)}")
        if "barrier" in self.what and not self.other:
            raise InputError("probe: --what: barrier needs the run folder of other weights, --other")
        for name in ("points", "grid"):
            if (number := getattr(self, name)) < 3 or number % 2 == 0:
                raise InputError(f"probe: --{name}: got {number}, expected an odd number from 3 on, "
                                 "so that the weights themselves are a point")
        for name in ("span", "rho"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"probe: --{name}: got {getattr(self, name)}, expected a number above 0")
        for name, least in (("samples", 1), ("batch", 1), ("directions", 1), ("eigenvalues", 1),
                            ("probes", 2)):
            if (number := getattr(self, name)) is not None and number < least:
                raise InputError(f"probe: --{name}: got {number}, expected {least} or more")

    def wants(self, part):
        """Whether a part of PARTS is to be measured."""
        return part in self.what if self.what else part != "barrier" or self.other is not None

    def fixed(self):
        """What a probe that goes on must share with its beginning (dict). Not the parts that are wanted
        now, nor how many samples go forward at once; of the other run and the table it is the digests that
        count, not the paths."""
        return {name: value for name, value in asdict(self).items()
                if name not in ("what", "batch", "other", "selection")}
