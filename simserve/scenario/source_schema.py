"""Where requests or their lengths come from, in a scenario: traces and ServeGen populations."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from simserve.scenario.arrival_schema import ArrivalSpec
from simserve.scenario.length_schema import short_form
from simserve.scenario.numbers import Positive, PositiveInt, Seconds
from simserve.scenario.section import Section


class TraceSpec(Section):
    """Requests read from a file."""

    model_config = short_form("string")

    path: str = Field(min_length=1, description="The trace, plain or .gz.")
    format: str = Field(
        default="auto", description="Its format (see `simserve list traces`); auto: recognised."
    )
    rate_scale: Positive = Field(default=1.0, description="Arrivals come this many times as fast.")
    limit: PositiveInt | None = Field(
        default=None, description="Only the first requests, in order of arrival."
    )
    start_s: Seconds = Field(default=0.0, description="Leave out what arrives before this time of the trace.")
    duration_s: Positive | None = Field(
        default=None, description="Leave out what arrives this long after start_s."
    )
    spread_ticks: bool = Field(
        default=False, description="Mooncake: spread the requests of one 3 s tick evenly up to the next tick."
    )
    arrivals: ArrivalSpec | None = Field(
        default=None,
        description="New arrival times: needed for lengths-only traces, replaces recorded times else.",
    )
    release: Literal["recorded", "completion"] | None = Field(
        default=None,
        description="Traces with sessions: a turn comes at its recorded time, or when the one before has "
        "completed plus the gap. null: the format's default (completion for agent sessions).",
    )
    subtract_base_s: Seconds = Field(
        default=0.0,
        description="Agent sessions: the original model's latency in each recorded gap, per call.",
    )
    subtract_per_token_s: Seconds = Field(
        default=0.0, description="The same, per output token of the call before."
    )
    max_input_tokens: PositiveInt | None = Field(default=None, description="Leave out longer prompts.")
    max_output_tokens: PositiveInt | None = Field(default=None, description="Leave out longer outputs.")

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        return {"path": data} if isinstance(data, str) else data


class PairsSpec(Section):
    """Joint (prompt, output) lengths, drawn with replacement from the rows of a trace."""

    model_config = short_form("string")

    path: str = Field(min_length=1, description="A trace of any format; its arrival times are not used.")
    format: str = Field(default="auto", description="Its format; auto: recognised.")
    max_input_tokens: PositiveInt | None = Field(
        default=None, description="Leave out rows with longer prompts."
    )
    max_output_tokens: PositiveInt | None = Field(
        default=None, description="Leave out rows with longer outputs."
    )

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        return {"path": data} if isinstance(data, str) else data


class ServeGenSpec(Section):
    """Arrivals and lengths of a ServeGen client population (Xiang et al. 2025)."""

    model_config = short_form("string")

    windows: str = Field(
        min_length=1, description="CSV of client windows: client,start_s,rate_rps,cv,dist,p1,p2."
    )
    lengths: str | None = Field(
        default=None, description="CSV of length quantiles; null: the windows' name with `length_quantiles`."
    )
    start_s: Seconds = Field(
        default=0.0, description="Start of the part to generate, in the population's time."
    )
    duration_s: Positive = Field(default=600.0, description="Its length, s.")
    clients: PositiveInt | None = Field(
        default=None, description="Only the busiest clients of that part; null: all."
    )
    rate_per_s: Positive | None = Field(default=None, description="Scale to this mean rate, shapes kept.")
    rate_scale: Positive = Field(default=1.0, description="Scale every client's rate.")

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        return {"windows": data} if isinstance(data, str) else data
