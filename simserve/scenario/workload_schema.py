"""The scenario's `workload:` section: a trace, a ServeGen population, or generators; and the client.

Short forms, and what they stand for:

| short | long |
|---|---|
| `workload: traces/chat.csv.gz`, `trace: traces/chat.csv.gz` | `trace: {path: traces/chat.csv.gz}` |
| `arrivals: 10`, `arrivals: 10/s` | `arrivals: {kind: poisson, rate_per_s: 10}` |
| `prompt_tokens: 512` (and every other length) | `prompt_tokens: {kind: constant, value: 512}` |
| `prompt_tokens: {median: 300, sigma: 1}` | the same with `kind: lognormal`, as the keys say |
| `pairs: FILE` | `pairs: {path: FILE}` |
| `servegen: FILE` | `servegen: {windows: FILE}` |
| `client: 64` | `client: {max_concurrency: 64}` |
| `tenants: {a: 3, b: 1}` | `tenants: [{name: a, weight: 3}, {name: b, weight: 1}]` |
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from simserve.scenario.arrival_schema import ArrivalSpec, RateSpec
from simserve.scenario.length_schema import LengthSpec, short_form
from simserve.scenario.numbers import Positive, PositiveInt, Priority
from simserve.scenario.section import Section, combination_error
from simserve.scenario.source_schema import PairsSpec, ServeGenSpec, TraceSpec
from simserve.scenario.traffic_schema import ClientSpec, PrefixSpec, SessionSpec, TenantSpec

__all__ = [
    "ArrivalSpec",
    "ClientSpec",
    "LengthSpec",
    "PairsSpec",
    "PrefixSpec",
    "RateSpec",
    "ServeGenSpec",
    "SessionSpec",
    "TenantSpec",
    "TraceSpec",
    "WorkloadSpec",
    "expand_workload",
]


class WorkloadSpec(Section):
    """What is asked of the cluster: `trace`, or `servegen`, or `arrivals` with lengths."""

    model_config = short_form("string")

    trace: TraceSpec | None = Field(default=None, description="Requests from a file.")
    servegen: ServeGenSpec | None = Field(default=None, description="Requests of a ServeGen population.")
    arrivals: ArrivalSpec | None = Field(default=None, description="Generated requests: when they arrive.")
    prompt_tokens: LengthSpec | None = Field(default=None, description="Generated requests: prompt lengths.")
    output_tokens: LengthSpec | None = Field(default=None, description="Generated requests: output lengths.")
    pairs: PairsSpec | None = Field(
        default=None, description="Joint lengths from a trace, in place of prompt_tokens and output_tokens."
    )
    requests: Annotated[int, Field(ge=1, le=10**9)] | None = Field(
        default=None, description="Number of generated requests, all turns counted."
    )
    duration_s: Positive | None = Field(default=None, description="Generate arrivals up to this time, s.")
    prefixes: PrefixSpec | None = Field(default=None, description="Shared prefixes of generated requests.")
    sessions: SessionSpec | None = Field(
        default=None, description="Multi-turn sessions of generated requests."
    )
    max_tokens: PositiveInt | None = Field(
        default=None,
        description="Every request's own limit; outputs are cut to it, shorter ones end by EOS. null: the "
        "output's length is the limit.",
    )
    priority: Priority = Field(default=0, description="Priority of all requests, lower first.")
    slo_class: str = Field(default="", description="SLO class of all requests.")
    tenants: tuple[TenantSpec, ...] = Field(default=(), strict=False, description="Mix of tenants.")
    client: ClientSpec = Field(default_factory=ClientSpec, description="Limits of the load generator.")

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        return expand_workload(data)

    @model_validator(mode="after")
    def _check(self) -> WorkloadSpec:
        sources = [key for key in ("trace", "servegen", "arrivals") if getattr(self, key) is not None]
        if len(sources) != 1:
            found = f"found {' and '.join(sources)}" if sources else "found none"
            raise combination_error(
                sources[-1] if sources else "trace", f"expected one of trace, servegen, arrivals; {found}"
            )
        if sources != ["arrivals"]:
            self._refuse_generator_keys(sources[0])
        else:
            self._check_generator()
        if (
            self.arrivals is not None
            and self.arrivals.kind == "closed_loop"
            and self.client.max_concurrency is not None
        ):
            raise combination_error(
                "client", "closed_loop sets the client's max_concurrency already; expected one of them"
            )
        return self

    def _refuse_generator_keys(self, source: str) -> None:
        allowed = {"servegen": ("requests",), "trace": ()}[source]
        for key in (
            "prompt_tokens",
            "output_tokens",
            "pairs",
            "requests",
            "duration_s",
            "prefixes",
            "sessions",
        ):
            if getattr(self, key) is not None and key not in allowed:
                hint = "; expected trace.limit" if key == "requests" else ""
                raise combination_error(key, f"{key} belongs to generated requests, not to a {source}{hint}")

    def _check_generator(self) -> None:
        lengths = [key for key in ("prompt_tokens", "output_tokens") if getattr(self, key) is not None]
        if self.pairs is not None and lengths:
            raise combination_error(
                "pairs", f"pairs stands in place of prompt_tokens and output_tokens; found {lengths[0]} too"
            )
        if self.pairs is None and len(lengths) < 2:
            raise combination_error(
                "arrivals", "generated requests need prompt_tokens and output_tokens, or pairs"
            )
        if self.requests is None and self.duration_s is None:
            raise combination_error(
                "arrivals", "generated requests need requests (how many) or duration_s (how long)"
            )
        assert self.arrivals is not None
        if self.arrivals.kind == "closed_loop" and self.requests is None:
            raise combination_error("arrivals", "closed_loop needs requests (how many)")


def expand_workload(data: Any) -> Any:
    """Return a `workload:` section with the short forms of its keys in their long form."""
    if isinstance(data, str):
        return {"trace": {"path": data}}
    if not isinstance(data, dict):
        return data
    result = dict(data)
    for key, inner, kinds in _SHORT_KEYS:
        value = result.get(key)
        if isinstance(value, kinds) and not isinstance(value, bool):
            result[key] = {inner: value}
    tenants = result.get("tenants")
    if isinstance(tenants, dict):
        result["tenants"] = [{"name": name, "weight": weight} for name, weight in tenants.items()]
    return result


_SHORT_KEYS: tuple[tuple[str, str, Any], ...] = (
    ("trace", "path", str),
    ("servegen", "windows", str),
    ("pairs", "path", str),
    ("client", "max_concurrency", int),
    ("prompt_tokens", "value", int),
    ("output_tokens", "value", int),
    ("arrivals", "rate_per_s", (int, float)),
)
