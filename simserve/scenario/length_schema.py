"""Token lengths in a scenario, and how a short form shows in the JSON schema."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from simserve.scenario.numbers import LARGEST, LogDeviation, Positive, PositiveInt, Variation
from simserve.scenario.section import Section, combination_error

# A key of a mapping, which YAML gives as text.
Probability = Annotated[float, Field(ge=0, le=1, strict=False)]

# Keys of each kind: needed ones, then those that may be given.
_KEYS = {
    "constant": (("value",), ()),
    "uniform": (("min", "max"), ()),
    "lognormal": ((), ("mean", "median", "sigma", "cv", "min", "max")),
    "quantiles": (("quantiles",), ("min", "max")),
}


def short_form(*types: str) -> ConfigDict:
    """Return a model configuration whose JSON schema also allows values of the given JSON types."""

    def allow(schema: dict[str, Any]) -> None:
        long = dict(schema)
        schema.clear()
        schema["anyOf"] = [long, *({"type": name} for name in types)]

    return ConfigDict(json_schema_extra=allow)


class LengthSpec(Section):
    """A distribution of lengths in whole tokens (or turns), each at least 1."""

    model_config = short_form("integer")

    kind: Literal["constant", "uniform", "lognormal", "quantiles"] = Field(
        default="constant",
        description="constant, uniform, lognormal, or quantiles; guessed from the other keys.",
    )
    value: PositiveInt | None = Field(default=None, description="constant: the length.")
    min: PositiveInt | None = Field(
        default=None, description="uniform: smallest length; lognormal, quantiles: shorter draws become this."
    )
    max: PositiveInt | None = Field(
        default=None, description="uniform: largest length; lognormal, quantiles: longer draws become this."
    )
    mean: Positive | None = Field(default=None, description="lognormal: mean before min and max.")
    median: Positive | None = Field(default=None, description="lognormal: median, in place of mean.")
    sigma: LogDeviation | None = Field(
        default=None, description="lognormal: standard deviation of the logarithm."
    )
    cv: Variation | None = Field(
        default=None, description="lognormal: coefficient of variation, in place of sigma."
    )
    quantiles: dict[Probability, Annotated[float, Field(ge=0, le=LARGEST)]] | None = Field(
        default=None,
        min_length=2,
        description="Length at each probability from 0 to 1, interpolated linearly.",
    )

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        if isinstance(data, int) and not isinstance(data, bool):
            return {"kind": "constant", "value": data}
        if isinstance(data, dict) and "kind" not in data:
            return {"kind": _guess_kind(data), **data}
        return data

    @model_validator(mode="after")
    def _check(self) -> LengthSpec:
        needed, allowed = _KEYS[self.kind]
        for key in needed:
            if getattr(self, key) is None:
                raise combination_error("kind", f"{self.kind} needs {' and '.join(needed)}")
        for key in ("value", "min", "max", "mean", "median", "sigma", "cv", "quantiles"):
            if getattr(self, key) is not None and key not in (*needed, *allowed):
                raise combination_error(key, f"{key} does not belong to kind: {self.kind}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise combination_error("min", f"min {self.min} is above max {self.max}")
        if self.kind == "lognormal":
            if (self.mean is None) == (self.median is None):
                raise combination_error("kind", "lognormal takes either mean or median")
            if (self.sigma is None) == (self.cv is None):
                raise combination_error("kind", "lognormal takes either sigma or cv")
        if self.quantiles is not None:
            _check_quantiles(self.quantiles)
        return self


def _guess_kind(data: dict[Any, Any]) -> str:
    if "quantiles" in data:
        return "quantiles"
    if any(key in data for key in ("mean", "median", "sigma", "cv")):
        return "lognormal"
    return "constant" if "value" in data else "uniform"


def _check_quantiles(quantiles: dict[float, float]) -> None:
    points = sorted(quantiles.items())
    if points[0][0] != 0 or points[-1][0] != 1:
        raise combination_error("quantiles", "quantiles needs the lengths at 0 and at 1")
    if any(b < a for (_, a), (_, b) in pairwise(points)):
        raise combination_error("quantiles", "quantiles must not fall as the probability rises")
