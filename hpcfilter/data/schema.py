"""The table [data]."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from hpcfilter.base.settings import Place, Table


class Data(Table):
    """[data]: the data set, and how its rows come to the network."""

    path: Place  # the packed file
    order: Literal["global", "shard"] = "global"  # shard: a rank trains only the samples that it owns
    augment: str = "none"  # none, shift, shift_flip or package.module:function
    # pixels that shift moves by; default an eighth of the height
    shift: Annotated[int, Field(ge=0)] | None = None
    resident: bool = False  # keep all training rows on the device, for data sets that fit there
    verify: bool = True  # check the checksums of the rows this rank owns before training

    @pydantic.model_validator(mode="after")
    def _no_augmentation_on_the_device(self):
        if self.resident and self.augment != "none":
            raise ValueError("resident = true: rows on the device are not augmented; "
                             f"expected augment = \"none\", got {self.augment!r}")
        return self
