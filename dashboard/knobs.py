"""The form of the page *Run*: what is changed most, as widgets made from the scenario's schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import streamlit as st

from simserve import Scenario, catalog_names

_POOL = "pools.0"
_ENGINE = f"{_POOL}.engine"


def ask_overrides(scenario: Scenario, key: str) -> list[str]:
    """Show the knobs with the scenario's values, and return what was changed, as `--set` takes it.

    Args:
        scenario: As it is without changes.
        key: Names the scenario: another one begins with its own values.
    """
    pool = scenario.pools[0]
    engine = pool.engine
    if len(scenario.pools) > 1:
        st.caption(f"The knobs are of the first pool, {pool.name!r}; reach the others by key, below.")
    changes: list[str | None] = []
    first, second, third = st.columns(3)
    with first:
        changes.append(_choose(f"{_POOL}.model", pool.model or scenario.model, catalog_names("models"), key))
        changes.append(_choose(f"{_POOL}.hardware", pool.hardware, catalog_names("hardware"), key))
        changes.append(_choose(f"{_ENGINE}.kind", engine.kind, catalog_names("schedulers"), key))
    with second:
        changes.append(_count(f"{_POOL}.replicas", pool.replicas, key))
        changes.append(_count(f"{_ENGINE}.tensor_parallel_size", engine.tensor_parallel_size, key))
        changes.append(_count("seed", scenario.seed, key, least=0))
    with third:
        changes.append(_count(f"{_ENGINE}.max_num_seqs", engine.max_num_seqs, key))
        changes.append(_count(f"{_ENGINE}.max_num_batched_tokens", engine.max_num_batched_tokens, key))
        changes.append(_ask_rate(scenario, key))
    changes.append(_ask_requests(scenario, key))
    return [change for change in changes if change is not None]


def _ask_rate(scenario: Scenario, key: str) -> str | None:
    """A trace is sped up; generated arrivals have a rate, if they are not of another kind."""
    trace, arrivals = scenario.workload.trace, scenario.workload.arrivals
    if trace is not None and trace.arrivals is None:
        return _number("workload.trace.rate_scale", trace.rate_scale, key)
    rate = None if arrivals is None else getattr(arrivals, "rate_per_s", None)
    return None if rate is None else _number("workload.arrivals.rate_per_s", rate, key)


def _ask_requests(scenario: Scenario, key: str) -> str | None:
    workload = scenario.workload
    if workload.trace is not None:
        return _count("workload.trace.limit", workload.trace.limit, key)
    if workload.requests is not None:
        return _count("workload.requests", workload.requests, key)
    return None


def _choose(path: str, value: str | None, names: Sequence[str], key: str) -> str | None:
    options = list(names) if value in names or value is None else [value, *names]
    index = None if value is None else options.index(value)
    chosen = st.selectbox(_label(path), options, index=index, key=f"{key}:{path}", help=_about(path))
    return None if chosen is None or chosen == value else f"{path}={json.dumps(chosen)}"


def _count(path: str, value: int | None, key: str, *, least: int = 1) -> str | None:
    chosen = st.number_input(
        _label(path), min_value=least, value=value, step=1, key=f"{key}:{path}", help=_about(path),
        placeholder="the default",
    )  # fmt: skip
    return None if chosen == value else f"{path}={'null' if chosen is None else int(chosen)}"


def _number(path: str, value: float, key: str) -> str | None:
    chosen = st.number_input(
        _label(path), min_value=0.001, value=float(value), key=f"{key}:{path}", help=_about(path), format="%g"
    )
    return None if chosen == value else f"{path}={chosen!r}"


def _label(path: str) -> str:
    return path.rpartition(".")[2]


@st.cache_data
def _schema() -> dict[str, Any]:
    return Scenario.model_json_schema()


def _about(path: str) -> str | None:
    """Return what the schema says about a key, by its path or, where forms differ, by its name."""
    name = _label(path)
    sections = {
        "": "Scenario", _POOL: "Pool", _ENGINE: "Engine", "workload": "WorkloadSpec",
        "workload.trace": "TraceSpec", "workload.arrivals": "RateSpec",
    }  # fmt: skip
    section = sections[path.rpartition(".")[0]]
    schema = _schema()
    found = schema.get("$defs", {}).get(section, schema)
    # A section with a short form is a choice of forms, the one with keys among them.
    for form in (found, *found.get("anyOf", ()), *found.get("oneOf", ())):
        if name in form.get("properties", {}):
            text: str | None = form["properties"][name].get("description")
            return text
    return None
