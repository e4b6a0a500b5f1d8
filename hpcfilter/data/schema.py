"""The table [data]."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from hpcfilter.base.settings import Place, Table


class Data(Table):
    """[data]: the data set, and how its rows come to the network."""

    path: Place  # the packed file
    order: Literal["global", "shard"] = "global"  # shard: a rank trains only the samples that it owns
    # none, shift, shift_flip, resized_crop, resized_crop_flip or package.module:function
    augment: str = "none"
    # pixels that shift moves by; default an eighth of the height
    shift: Annotated[int, Field(ge=0)] | None = None
    # least share of an image's area that resized_crop keeps; default 0.08
    crop: Annotated[float, Field(gt=0, le=1)] | None = None
    # where pixels are moved: host (read ahead) or device (where the network is); auto: on a GPU there
    augment_on: Literal["auto", "host", "device"] = "auto"
    resident: bool = False  # keep all training rows on the device, for data sets that fit there
    verify: bool = True  # check the checksums of the rows this rank owns before training

    @pydantic.model_validator(mode="after")
    def _augmentation_where_it_can_be(self):
        if self.resident and ":" in self.augment:
            raise ValueError("resident = true: rows on the device are augmented there, by one of ours or "
                             f"none; got augment = {self.augment!r}")
        if self.resident and self.augment != "none" and self.augment_on == "host":
            raise ValueError('resident = true: rows on the device are augmented there; '
                             'expected augment_on = "auto" or "device", got "host"')
        if self.augment_on == "device" and ":" in self.augment:
            raise ValueError(f'augment_on = "device": {self.augment!r} is of your own and takes arrays '
                             'on the host; expected augment_on = "auto" or "host"')
        return self
