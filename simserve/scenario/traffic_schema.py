"""What generated requests have in common and who sends them, in a scenario."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from simserve.scenario.length_schema import LengthSpec, short_form
from simserve.scenario.numbers import Positive, PositiveInt, Priority, Seconds
from simserve.scenario.section import Section, combination_error


class PrefixSpec(Section):
    """Groups of requests that start with the same tokens (system prompts, shared documents)."""

    groups: Annotated[int, Field(ge=1, le=10**7)] = Field(
        description="Number of groups, each with a prefix of its own."
    )
    tokens: LengthSpec = Field(description="Tokens of a group's prefix; they come before prompt_tokens.")
    zipf: Seconds = Field(default=0.0, description="Exponent of the groups' popularity; 0: all alike.")
    weights: tuple[Positive, ...] | None = Field(
        default=None, strict=False, description="Popularity of each group, in place of zipf."
    )

    @model_validator(mode="after")
    def _check(self) -> PrefixSpec:
        if self.weights is not None and (self.zipf > 0 or len(self.weights) != self.groups):
            raise combination_error(
                "weights", f"expected one weight for each of {self.groups} groups, and no zipf"
            )
        return self


class SessionSpec(Section):
    """Multi-turn sessions: a turn's prompt is all that was said before plus new tokens."""

    turns: LengthSpec = Field(description="Turns of a session.")
    new_tokens: LengthSpec | None = Field(
        default=None, description="New tokens of the second and later turns; null: drawn as prompt_tokens."
    )
    think_time_s: Seconds = Field(
        default=0.0, description="Mean time from a turn's completion to the next turn, s."
    )
    think_time_cv: Seconds = Field(
        default=1.0, description="Its coefficient of variation (gamma; 0: constant)."
    )
    max_context_tokens: PositiveInt | None = Field(
        default=None, description="A session ends before the turn whose prompt and output would exceed this."
    )


class TenantSpec(Section):
    """One part of the traffic, with its labels."""

    name: str = Field(default="", description="The tenant's name in routing and reports.")
    weight: Positive = Field(
        default=1.0, description="Share of the requests (sessions stay whole), relative."
    )
    priority: Priority | None = Field(
        default=None, description="Priority of its requests, lower first; null: the workload's."
    )
    slo_class: str | None = Field(
        default=None, description="SLO class of its requests; null: the workload's."
    )


class ClientSpec(Section):
    """The load generator's own limits."""

    model_config = short_form("integer")

    max_concurrency: PositiveInt | None = Field(
        default=None, description="Most requests in flight; others wait in the client. null: no cap."
    )
    timeout_s: Positive | None = Field(
        default=None, description="A request is aborted so long after it was sent."
    )

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        return {"max_concurrency": data} if isinstance(data, int) and not isinstance(data, bool) else data
