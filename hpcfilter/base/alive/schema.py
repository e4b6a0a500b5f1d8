"""The table [stop]."""

from typing import Annotated

import pydantic
from pydantic import Field

from hpcfilter.base.alive import notice
from hpcfilter.base.settings import Table


class Stop(Table):
    """[stop]: when a run ends before its time."""

    # notice to leave: save and exit 0 with the marker REQUEUE
    signals: list[str] = Field(list(notice.SIGNALS))
    # without any progress, after which the job is ended; 0: never
    stall_seconds: Annotated[float, Field(ge=0)] = 300.0

    @pydantic.field_validator("signals")
    @classmethod
    def _can_be_caught(cls, names):
        for name in names:
            if not notice.can_be_caught(name):
                raise ValueError(f"{name} is no signal that can be caught; expected names such as "
                                 f"{', '.join(notice.SIGNALS)}{notice.likely(name)}")
        return names
