"""Numbers of the schema, with bounds: wide enough for any real scenario, and all arithmetic stays finite.

The clock counts nanoseconds in 64 bits, 292 years; a single time is held below a tenth of that.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

LARGEST = 2**40

PositiveInt = Annotated[int, Field(ge=1, le=LARGEST)]
Priority = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
Rate = Annotated[float, Field(ge=0, le=1e9)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
PositiveSeconds = Annotated[float, Field(gt=0, le=1e9)]
# Of one step, and of one token in it.
StepSeconds = Annotated[float, Field(ge=0, le=3600)]
TokenSeconds = Annotated[float, Field(ge=0, le=1)]
# Coefficient of variation, and standard deviation of a logarithm.
Variation = Annotated[float, Field(gt=0, le=1000)]
LogDeviation = Annotated[float, Field(gt=0, le=50)]
