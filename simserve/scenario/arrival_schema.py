"""When requests arrive, in a scenario: arrival processes, and rates that change over time."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from simserve.errors import InputError
from simserve.scenario.length_schema import short_form
from simserve.scenario.numbers import Positive, PositiveInt, Rate, Seconds, Variation
from simserve.scenario.section import Section, combination_error
from simserve.units import parse_rate

# Time and rate from then on; a list of two in YAML.
RatePoint = Annotated[tuple[Seconds, Rate], Field(strict=False)]

# Keys of each kind, all of them needed.
_KEYS = {
    "steps": ("points",),
    "ramp": ("from_per_s", "to_per_s", "over_s"),
    "sine": ("mean_per_s", "amplitude_per_s", "period_s"),
    "spikes": ("base_per_s", "spike_per_s", "every_s", "spike_s"),
    "csv": ("path",),
}


class RateSpec(Section):
    """A rate schedule; arrivals follow it by time rescaling, whatever their gaps' distribution."""

    kind: Literal["steps", "ramp", "sine", "spikes", "csv"] = Field(description="The schedule's form.")
    points: tuple[RatePoint, ...] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        description="steps: [time_s, rate_per_s] pairs; each holds until the next, the last for good.",
    )
    from_per_s: Rate | None = Field(default=None, description="ramp: rate at time 0.")
    to_per_s: Rate | None = Field(default=None, description="ramp: rate at over_s and after.")
    over_s: Positive | None = Field(default=None, description="ramp: how long the rate changes, s.")
    mean_per_s: Positive | None = Field(default=None, description="sine: mean rate.")
    amplitude_per_s: Rate | None = Field(
        default=None, description="sine: highest rate minus mean, at most the mean."
    )
    period_s: Positive | None = Field(
        default=None, description="sine: period, s; it starts at the mean, rising."
    )
    base_per_s: Rate | None = Field(default=None, description="spikes: rate between spikes.")
    spike_per_s: Positive | None = Field(default=None, description="spikes: rate in a spike.")
    every_s: Positive | None = Field(default=None, description="spikes: period, s; it ends with the spike.")
    spike_s: Positive | None = Field(default=None, description="spikes: how long one lasts, s.")
    path: str | None = Field(
        default=None, min_length=1, description="csv: file of time_s,rate_per_s rows, used as steps."
    )

    @model_validator(mode="after")
    def _check(self) -> RateSpec:
        needed = _KEYS[self.kind]
        for key in type(self).model_fields:
            if key != "kind" and (getattr(self, key) is not None) != (key in needed):
                verb = "needs" if key in needed else "takes no"
                raise combination_error(key if verb != "needs" else "kind", f"{self.kind} {verb} {key}")
        if self.points is not None:
            times = [time for time, _ in self.points]
            if times != sorted(set(times)) or times[0] != 0:
                raise combination_error("points", "points must start at time 0 and rise in time")
        if self.kind == "ramp" and not self.from_per_s and not self.to_per_s:
            raise combination_error("to_per_s", "a ramp from 0 to 0 has no arrivals")
        if self.kind == "sine" and (self.amplitude_per_s or 0) > (self.mean_per_s or 0):
            raise combination_error(
                "amplitude_per_s", "the amplitude is above the mean; the rate would be negative"
            )
        if self.kind == "spikes" and (self.spike_s or 0) >= (self.every_s or 0):
            raise combination_error("spike_s", "a spike must be shorter than every_s")
        return self


class ArrivalSpec(Section):
    """When requests (with `sessions`: first turns) arrive."""

    model_config = short_form("number", "string")

    kind: Literal["constant", "poisson", "gamma", "weibull", "closed_loop"] = Field(
        default="poisson",
        description="Gaps: constant; exponential (poisson); gamma or weibull with `cv`; or closed_loop: all "
        "are due at once and the client keeps `concurrency` in flight.",
    )
    rate_per_s: Positive | None = Field(default=None, description="Mean arrival rate, 1/s.")
    schedule: RateSpec | None = Field(
        default=None, description="A rate that changes over time, in place of rate_per_s."
    )
    cv: Variation | None = Field(
        default=None, description="gamma, weibull: coefficient of variation of the gaps (1: like poisson)."
    )
    burstiness: Positive | None = Field(
        default=None, description="gamma: vLLM bench's burstiness, the shape 1/cv^2, in place of cv."
    )
    concurrency: PositiveInt | None = Field(default=None, description="closed_loop: requests in flight.")

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        if isinstance(data, str):
            try:
                return {"rate_per_s": parse_rate(data)}
            except InputError as error:
                raise PydanticCustomError("arrivals", "{message}", {"message": error.message}) from error
        return {"rate_per_s": data} if isinstance(data, int | float) and not isinstance(data, bool) else data

    @model_validator(mode="after")
    def _check(self) -> ArrivalSpec:
        closed = self.kind == "closed_loop"
        if closed and (self.concurrency is None or self.rate_per_s is not None or self.schedule is not None):
            raise combination_error("kind", "closed_loop takes `concurrency`, and no rate_per_s or schedule")
        if not closed and self.concurrency is not None:
            raise combination_error(
                "concurrency", "concurrency belongs to kind: closed_loop; see also client"
            )
        if not closed and (self.rate_per_s is None) == (self.schedule is None):
            raise combination_error("kind", f"{self.kind} takes either `rate_per_s` or `schedule`")
        bursty = self.kind in ("gamma", "weibull")
        given = (self.cv is not None) + (self.burstiness is not None)
        if bursty and given != 1:
            raise combination_error(
                "kind", f"{self.kind} takes `cv`" + (" or `burstiness`" if self.kind == "gamma" else "")
            )
        if (self.kind != "gamma" and self.burstiness is not None) or (not bursty and self.cv is not None):
            raise combination_error(
                "kind", f"{self.kind} takes no {'cv' if self.cv is not None else 'burstiness'}"
            )
        return self
