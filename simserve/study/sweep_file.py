"""A sweep's file: a base scenario and the axes along which it is varied.

```yaml
base: scenarios/quickstart.yaml
axes:
  - {key: pools.0.engine.max_num_seqs, values: [64, 128, 256]}
  - {key: pools.0.replicas, range: {from: 1, to: 4}}
  - {key: workload.arrivals.rate_per_s, log_range: {from: 1, to: 32, count: 6}}
  - {keys: [pools.0.hardware, pools.0.engine.tensor_parallel_size], values: [[h100-sxm, 1], [l40s, 2]]}
seeds: 3
```

Axes are combined with each other (a grid); an axis of several keys moves them together (a zip).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from simserve.errors import ScenarioError
from simserve.scenario.numbers import PositiveInt
from simserve.scenario.section import Section, combination_error
from simserve.scenario.section_file import check_section, read_mapping

# A sweep with more points than this is a mistake.
_MOST_POINTS = 1_000_000


class Range(Section):
    """Numbers from one to another, both included."""

    begin: float = Field(alias="from", description="First value.")
    to: float = Field(description="Last value.")
    step: Annotated[float, Field(gt=0)] | None = Field(default=None, description="Distance; 1 if null.")
    count: Annotated[int, Field(ge=2, le=10_000)] | None = Field(
        default=None, description="How many values, evenly spread, in place of a distance."
    )
    round: bool = Field(default=False, description="Round to whole numbers; each counts once.")

    @model_validator(mode="after")
    def _check(self) -> Range:
        if self.step is not None and self.count is not None:
            raise combination_error("step", "expected one of step and count")
        if self.count is None and self.begin > self.to:
            raise combination_error(
                "from",
                f"from {self.begin:g} to {self.to:g} has no values; expected from below to, or a count",
            )
        return self

    def values(self, *, log: bool) -> list[int | float]:
        """Return the values, each once; whole numbers where both ends and the distance are whole.

        Args:
            log: Spread them evenly in the logarithm.
        """
        begin, to = self.begin, self.to
        if log:
            spread = np.geomspace(begin, to, self.count or 2).tolist()
        elif self.count is not None:
            spread = np.linspace(begin, to, self.count).tolist()
        else:
            step = self.step or 1.0
            spread = [begin + step * place for place in range(int((to - begin) / step + 1e-9) + 1)]
        shown = (_whole(float(f"{round(value) if self.round else value:.10g}")) for value in spread)
        return list(dict.fromkeys(shown))


class Axis(Section):
    """One axis: a key and its values, or keys that move together."""

    key: str | None = Field(default=None, description="Path of a key of the scenario's long form.")
    keys: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="Keys that move together; each value is then a list with one entry a key."
    )
    values: Annotated[tuple[Any, ...], Field(strict=False)] = Field(default=(), description="The values.")
    range: Range | None = Field(default=None, description="Values with even distances.")
    log_range: Range | None = Field(default=None, description="Values with even ratios; needs count.")

    @model_validator(mode="after")
    def _check(self) -> Axis:
        if (self.key is None) == (not self.keys):
            raise combination_error("key", "expected one of key and keys")
        given = [name for name in ("values", "range", "log_range") if getattr(self, name)]
        if len(given) != 1:
            raise combination_error("key", f"expected one of values, range, log_range; found {len(given)}")
        if self.keys and (
            not self.values or any(len(each) != len(self.keys) for each in self.values if _is_list(each))
            or not all(_is_list(each) for each in self.values)
        ):  # fmt: skip
            raise combination_error("keys", f"expected values with {len(self.keys)} entries each")
        wanted = self.log_range
        if wanted is not None and (wanted.count is None or min(wanted.begin, wanted.to) <= 0):
            raise combination_error("log_range", "expected from and to above 0, and a count (no step)")
        return self

    def names(self) -> tuple[str, ...]:
        """Return its keys."""
        return (self.key,) if self.key is not None else self.keys

    def settings(self) -> list[tuple[Any, ...]]:
        """Return its positions, with a value for each of its keys."""
        if self.keys:
            return [tuple(each) for each in self.values]
        if self.range is not None:
            return [(value,) for value in self.range.values(log=False)]
        if self.log_range is not None:
            return [(value,) for value in self.log_range.values(log=True)]
        return [(value,) for value in self.values]


class SweepFile(Section):
    """What is swept."""

    base: str = Field(min_length=1, description="The scenario: a file, or the name of a shipped one.")
    axes: Annotated[tuple[Axis, ...], Field(strict=False)] = Field(
        default=(), description="Axes, the last one varying fastest."
    )
    seeds: PositiveInt | Annotated[tuple[int, ...], Field(strict=False, min_length=1)] = Field(
        default=1, description="How many seeds each point is run with, from the scenario's on, or which."
    )
    overrides: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="Changes of the base for all points, as --set takes them."
    )

    @model_validator(mode="after")
    def _check(self) -> SweepFile:
        names = [name for axis in self.axes for name in axis.names()]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise combination_error("axes", f"{sorted(twice)[0]} is on two axes")
        if "seed" in names and self.seeds != 1:
            raise combination_error("seeds", "seed is an axis; expected no seeds beside it")
        hidden = [
            key for key in names if key in {change.partition("=")[0].strip() for change in self.overrides}
        ]
        if hidden:
            raise combination_error("overrides", f"{hidden[0]} is an axis; expected no override of it")
        points = 1
        for axis in self.axes:
            points *= len(axis.settings())
        if points > _MOST_POINTS:
            raise combination_error("axes", f"{points:,} points; expected at most {_MOST_POINTS:,}")
        return self


def read_sweep_file(path: str | Path) -> SweepFile:
    """Read a sweep's file.

    Raises:
        InputError: For what is wrong in it, all of it, with file, line, column and the nearest valid name.
    """
    data, places = read_mapping(Path(path), "a mapping with base and axes")
    if "workload" in data and "base" not in data:
        message = f"is a scenario: `simserve run {path}` runs it, and `base: {path}` names it in a sweep"
        raise ScenarioError(message, file=str(path))
    return check_section(SweepFile, data, places)


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)
