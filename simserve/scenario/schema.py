"""The scenario: what is simulated, as frozen pydantic models. The loader adds places to their errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from simserve.scenario.engine_schema import Engine, OptionValue, Speculative
from simserve.scenario.numbers import PositiveSeconds, Seconds, StepSeconds, TokenSeconds
from simserve.scenario.section import Section, combination_error
from simserve.scenario.short_forms import expand_short_forms
from simserve.scenario.workload_schema import WorkloadSpec

__all__ = [
    "Cost",
    "Engine",
    "Metrics",
    "Pool",
    "Queue",
    "Router",
    "Scenario",
    "Slo",
    "SloTargets",
    "Speculative",
]


class Queue(Section):
    """How many requests may wait in a pool, and what happens to one too many."""

    limit: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Most requests waiting in the pool's instances together; null: no limit."
    )
    policy: Literal["reject", "shed"] = Field(
        default="reject",
        description="At the limit: reject the request that arrives, or shed the one that has waited longest.",
    )


class Pool(Section):
    """Instances of one engine on one kind of hardware."""

    name: str = Field(default="pool", min_length=1, description="Name of the pool, unique in the scenario.")
    replicas: Annotated[int, Field(ge=1, le=65536)] = Field(default=1, description="Number of instances.")
    hardware: str = Field(min_length=1, description="Accelerator: a catalog name, or a path to a YAML file.")
    model: str | None = Field(
        default=None, min_length=1, description="Model of this pool; null: the scenario's model."
    )
    engine: Engine = Field(default_factory=Engine, description="The engine that each instance runs.")
    queue: Queue = Field(default_factory=Queue, description="Admission to the pool.")


class Router(Section):
    """Which instance a request goes to."""

    policy: str = Field(
        default="least_outstanding",
        min_length=1,
        description="round_robin, random, least_outstanding, power_of_two, session_affinity, prefix_aware, "
        "another registered name, or package.module:Class.",
    )
    view: Literal["cache", "tree"] = Field(
        default="cache",
        description="prefix_aware: look into the instances' real caches, or keep a router-side tree of "
        "what was sent where.",
    )
    threshold: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.5,
        description="prefix_aware: share of the prompt above which an instance that holds it is preferred.",
    )
    balance_abs_threshold: Annotated[int, Field(ge=0)] = Field(
        default=32,
        description="prefix_aware: the least loaded instance is chosen where the highest and lowest load "
        "differ by more than this,",
    )
    balance_rel_threshold: Annotated[float, Field(ge=0)] = Field(
        default=1.1, description="prefix_aware: and the highest is more than this many times the lowest."
    )
    max_tree_tokens: Annotated[int, Field(ge=0)] = Field(
        default=2**22, description="prefix_aware, view tree: tokens of an instance that the tree remembers."
    )
    fallback: str = Field(
        default="least_outstanding",
        min_length=1,
        description="session_affinity, prefix_aware: policy for requests without a session or a prefix hit.",
    )
    options: dict[str, OptionValue] = Field(
        default_factory=dict,
        description="Options of a router of your own (policy: package.module:Class), passed as they are.",
    )

    def arguments(self, option_defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options for the router's class: those of this section that it names, and `options`."""
        named = {key: getattr(self, key) for key in option_defaults if key in Router.model_fields}
        return {**named, **self.options}


class SloTargets(Section):
    """Latency targets; one that is null is not demanded."""

    ttft_s: PositiveSeconds | None = Field(default=None, description="Time to first token, s.")
    tpot_s: PositiveSeconds | None = Field(
        default=None, description="Time per output token after the first, s."
    )
    e2el_s: PositiveSeconds | None = Field(default=None, description="End-to-end latency, s.")


class Slo(SloTargets):
    """Latency targets of all requests, and of those with an SLO class of their own."""

    classes: dict[str, SloTargets] = Field(
        default_factory=dict,
        description="Targets by slo_class; they replace the common ones for its requests.",
    )


class Metrics(Section):
    """Which part of the run the figures describe."""

    warmup_s: Seconds = Field(
        default=0.0, description="Requests that arrive before this time are left out, s."
    )
    cooldown_s: Seconds = Field(
        default=0.0, description="Requests that arrive in the last part of the arrivals are left out, s."
    )


class Cost(Section):
    """What a step costs in time: base + prefill tokens, decoding requests and context, or a GPU model."""

    kind: Literal["analytic", "measured", "constant", "linear"] = Field(
        default="analytic",
        description="analytic: a roofline over the model's operators; measured: the same, with kernels "
        "looked up in measured tables first; constant: every step takes base_s; linear: base_s plus the "
        "per_* terms.",
    )
    base_s: StepSeconds = Field(default=0.0, description="constant, linear: seconds of every step.")
    per_prefill_token_s: TokenSeconds = Field(default=0.0, description="linear: seconds per prefill token.")
    per_decode_s: TokenSeconds = Field(default=0.0, description="linear: seconds per decoding request.")
    per_context_token_s: TokenSeconds = Field(
        default=0.0, description="linear: seconds per token of decode context."
    )
    tables: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        description="measured: files of kernel tables (parquet or CSV), or folders of them.",
    )
    aic: Literal["vllm", "sglang", "trtllm"] | None = Field(
        default=None,
        description="measured: look kernels up in the tables that an installed aiconfigurator-core has of "
        "this backend; after `tables`.",
    )

    sustained_rates: bool = Field(
        default=True,
        description="analytic, measured: matrix multiplications run at the rate that the accelerator keeps "
        "under load; false: at the boost clocks of a short benchmark.",
    )

    @model_validator(mode="after")
    def _check(self) -> Cost:
        if self.kind == "measured" and not self.tables and self.aic is None:
            raise combination_error("kind", "measured needs tables, or aic: vllm, sglang or trtllm")
        if self.kind == "constant" and self.base_s <= 0:
            raise combination_error("kind", "constant needs base_s, the seconds of a step, above 0")
        terms = self.base_s + self.per_prefill_token_s + self.per_decode_s
        if self.kind == "linear" and terms <= 0:
            raise combination_error(
                "kind",
                "linear needs base_s, per_prefill_token_s or per_decode_s above 0, or steps take no time",
            )
        return self


class Scenario(Section):
    """One simulation: a workload, the pools that serve it, and what is asked of them."""

    name: str = Field(default="", description="Title of the scenario, for reports.")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        default=0, description="Seed of all random draws; the same seed gives the same bytes."
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        description="Model of every pool that names none: a catalog name, or a path to a Hugging Face "
        "config.json.",
    )
    workload: WorkloadSpec = Field(description="The requests: a trace, or generators.")
    pools: Annotated[tuple[Pool, ...], Field(strict=False, min_length=1)] = Field(
        description="Groups of equal instances."
    )
    router: Router = Field(default_factory=Router, description="How requests are spread over the instances.")
    slo: Slo = Field(default_factory=Slo, description="Latency targets, for goodput and attainment.")
    metrics: Metrics = Field(default_factory=Metrics, description="Window of the figures.")
    cost: Cost = Field(default_factory=Cost, description="Where step times come from.")

    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path | None:
        """Folder of the file it was loaded from, beside which relative paths are sought first."""
        return self._folder

    def __eq__(self, other: object) -> bool:
        """Whether all keys agree; where they were loaded from does not matter."""
        return isinstance(other, Scenario) and self.__dict__ == other.__dict__

    def model_of(self, pool: Pool) -> str:
        """Return the model that a pool serves, a catalog name or a path."""
        name = pool.model or self.model
        assert name is not None, "checked when the scenario was made"
        return name

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        return expand_short_forms(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _check(self) -> Scenario:
        names = [pool.name for pool in self.pools]
        for name in names:
            if names.count(name) > 1:
                raise combination_error("pools", f"two pools are named {name!r}; expected different names")
        for index, pool in enumerate(self.pools):
            if pool.model is None and self.model is None:
                raise combination_error(
                    "pools",
                    f"pool {index} ({pool.name!r}) has no model; expected `model` in it or in the scenario",
                )
        return self
