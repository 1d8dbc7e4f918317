"""The `order:` section of an engine: who of the waiting is next, and what guesses output lengths."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from simserve.scenario.numbers import LogDeviation, Positive, PositiveInt, PositiveSeconds
from simserve.scenario.section import Section

OptionValue = bool | int | float | str | None


class LengthPredictor(Section):
    """What an order by length believes of a request's output."""

    kind: str = Field(
        default="oracle",
        min_length=1,
        description="oracle (the true length), noisy, bucketed, ranked, or package.module:Class.",
    )
    sigma: LogDeviation | None = Field(
        default=None, description="noisy: standard deviation of the log of the factor by which it errs."
    )
    bucket_tokens: PositiveInt | None = Field(
        default=None, description="bucketed: width of a bucket, tokens."
    )
    accuracy: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="bucketed: how often the bucket is the right one; null: always."
    )
    kendall_tau: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="ranked: Kendall's tau between the guessed and the true order."
    )
    length_sigma: LogDeviation | None = Field(
        default=None,
        description="ranked: standard deviation of the log of the workload's output lengths; null: 0.9.",
    )
    options: dict[str, OptionValue] = Field(
        default_factory=dict, description="Options of a predictor of your own, passed as they are."
    )


class Order(Section):
    """Who of the waiting requests is next, and who gives way under memory pressure."""

    policy: str = Field(
        default="fcfs",
        min_length=1,
        description="fcfs, lifo, priority, random, sjf, srpt, edf, slack, vtc, mlfq, another registered "
        "name, or package.module:Class.",
    )
    predictor: LengthPredictor = Field(
        default_factory=LengthPredictor, description="sjf, srpt, slack: what guesses output lengths."
    )
    token_s: PositiveSeconds | None = Field(
        default=None, description="slack: estimated time of an output token, s."
    )
    input_weight: Positive | None = Field(default=None, description="vtc: weight of a prompt token; null: 1.")
    output_weight: Positive | None = Field(
        default=None, description="vtc: weight of an output token; null: 2."
    )
    levels: Annotated[int, Field(ge=1, le=32)] | None = Field(
        default=None, description="mlfq: number of levels; null: 6."
    )
    quantum_tokens: PositiveInt | None = Field(
        default=None, description="mlfq: output tokens on the highest level, doubled on each below; null: 16."
    )
    promote_after_s: PositiveSeconds | None = Field(
        default=None,
        description="mlfq: wait after which a request is back on the highest level, s; null: never.",
    )
    options: dict[str, OptionValue] = Field(
        default_factory=dict, description="Options of an order of your own, passed as they are."
    )
