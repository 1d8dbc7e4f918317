"""The form of the page *Run*: what is changed most, as widgets made from the scenario's schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.folders import find_traces
from dashboard.plots import plain_text
from simserve import Scenario, catalog_names

_POOL, _ENGINE = "pools.0", "pools.0.engine"
# A column each; the schema says what kind of widget each key is.
_COLUMNS = (
    (f"{_POOL}.model", f"{_POOL}.hardware", f"{_POOL}.replicas", "router.policy"),
    (
        f"{_ENGINE}.kind", f"{_ENGINE}.tensor_parallel_size", f"{_ENGINE}.pipeline_parallel_size",
        f"{_ENGINE}.scheduling_policy",
    ),
    (
        f"{_ENGINE}.max_num_seqs", f"{_ENGINE}.max_num_batched_tokens", f"{_ENGINE}.max_model_len",
        f"{_ENGINE}.quantization",
    ),
    (
        f"{_ENGINE}.gpu_memory_utilization", f"{_ENGINE}.block_size", f"{_ENGINE}.kv_cache_dtype",
        f"{_ENGINE}.enable_prefix_caching",
    ),
)  # fmt: skip
# What keys of knobs begin with, and so their part of the address.
_KNOBS = ("pools.0.", "router.", "workload.", "seed")
_SHOWN = "knobs-of"
# Of numbers that need not be whole, and of all: what a browser tells apart.
_LEAST, _MOST = 0.001, 2**53 - 1
_LABELS = {
    "router.policy": "router",
    "workload.trace.path": "trace",
    "workload.trace.limit": "requests (limit)",
    f"{_POOL}.replicas": "replicas (instances)",
    f"{_ENGINE}.kind": "engine",
}


def ask_overrides(scenario: Scenario, key: str) -> list[str]:
    """Show the knobs with the scenario's values, and return what was changed, as `--set` takes it.

    The address has the changes too, by key, and a page that is opened by such an address begins with them.

    Args:
        scenario: As it is without changes.
        key: Names the scenario: another one begins with its own values.
    """
    # Changes of another scenario, which was shown before in this tab, are not of this one.
    given = st.query_params.to_dict() if st.session_state.get(_SHOWN) in (None, key) else {}
    st.session_state[_SHOWN] = key
    if len(scenario.pools) > 1:
        name = scenario.pools[0].name
        st.caption(f"The knobs are of the first pool, '{plain_text(name)}'; reach the others by key, below.")
    changes: list[str | None] = []
    for column, paths in zip(st.columns(len(_COLUMNS)), _COLUMNS, strict=True):
        with column:
            changes += [_ask(path, scenario, key, given) for path in paths]
    load = [*_load_keys(scenario), "seed"]
    for column, path in zip(st.columns(len(_COLUMNS)), load, strict=False):
        with column:
            changes.append(_ask(path, scenario, key, given))
    made = [change for change in changes if change is not None]
    _write_address(made)
    return made


def _write_address(changes: Sequence[str]) -> None:
    """Let the address have these changes, and no others of knobs."""
    pairs = [change.split("=", 1) for change in changes]
    wanted = {name: str(json.loads(value)) if value[:1] == '"' else value for name, value in pairs}
    for name in [name for name in st.query_params if name.startswith(_KNOBS) and name not in wanted]:
        del st.query_params[name]
    for name, value in wanted.items():
        if st.query_params.get(name) != value:
            st.query_params[name] = value


def _load_keys(scenario: Scenario) -> list[str]:
    """Return the keys of the requests: of a trace which one, how fast, how many; of generators likewise."""
    workload = scenario.workload
    if workload.trace is not None:
        given = workload.trace.arrivals
        own = [] if given is None else _rate_key(given, "workload.trace.arrivals")
        return ["workload.trace.path", *(own or ["workload.trace.rate_scale"]), "workload.trace.limit"]
    rate = _rate_key(workload.arrivals, "workload.arrivals")
    return [*rate, *(["workload.requests"] if workload.requests is not None else [])]


def _rate_key(arrivals: object, path: str) -> list[str]:
    """Arrivals have a rate, if they are not of another kind."""
    return [f"{path}.rate_per_s"] if getattr(arrivals, "rate_per_s", None) is not None else []


def _ask(path: str, scenario: Scenario, key: str, given: Mapping[str, str]) -> str | None:
    """Show the widget of a key, with what is given for it at first; return its change, None for none."""
    value = _value_of(scenario, path)
    if path == f"{_POOL}.model" and value is None:
        value = scenario.model
    found = _schema_of(path)
    about: dict[str, Any] = {
        "label": label_of_key(path),
        "key": f"{key}:{path}",
        "help": found.get("description"),
    }
    names = found.get("enum") or _known_names(path)
    kind = "name" if names else found.get("type")
    # Widgets take what they begin with from the session: from the address, else from the scenario.
    if about["key"] not in st.session_state:
        st.session_state[about["key"]] = _begin_with(kind, value, given.get(path), found)
    chosen: Any
    if kind == "name":
        now = st.session_state[about["key"]]
        own = [each for each in dict.fromkeys((value, now)) if each is not None and each not in names]
        # Without a value, the scenario's default is chosen by emptying the widget.
        index = None if value is None else 0
        chosen = st.selectbox(options=[*own, *names], index=index, placeholder="the default", **about)
    elif kind == "boolean":
        chosen = st.toggle(**about)
    else:
        least = int(found.get("minimum", 0)) if kind == "integer" else _LEAST
        about["step" if kind == "integer" else "format"] = 1 if kind == "integer" else "%g"
        empty: Any = None if value is None else "min"
        chosen = st.number_input(min_value=least, value=empty, placeholder="the default", **about)
    return None if chosen == value else f"{path}={json.dumps(chosen)}"


def _begin_with(kind: str | None, value: Any, given: str | None, found: Mapping[str, Any]) -> Any:
    """Return what a widget shows at first: what the address gives, or if that is no such value, `value`."""
    if kind == "name":
        return given or value
    try:
        read = None if given is None else json.loads(given)
    except ValueError:
        read = None
    if kind == "boolean":
        return read if isinstance(read, bool) else bool(value)
    least = int(found.get("minimum", 0)) if kind == "integer" else _LEAST
    known = int if kind == "integer" else (int, float)
    if isinstance(read, known) and not isinstance(read, bool) and least <= read <= _MOST:
        value = read
    return value if value is None or kind == "integer" else float(value)


def _known_names(path: str) -> list[str]:
    """Return what a key may name that the schema does not list: what is in the catalogs, own traces too."""
    kinds = {
        f"{_POOL}.model": "models",
        f"{_POOL}.hardware": "hardware",
        f"{_ENGINE}.kind": "schedulers",
        "router.policy": "routers",
        "workload.trace.path": "traces",
    }
    if path not in kinds:
        return []
    own: Mapping[str, Path] = find_traces() if kinds[path] == "traces" else {}
    return [*catalog_names(kinds[path]), *map(str, own.values())]


def label_of_key(path: str) -> str:
    """Return how a key is called on the page."""
    return _LABELS.get(path, path.rpartition(".")[2])


def _value_of(scenario: Scenario, path: str) -> Any:
    found: Any = scenario
    for part in path.split("."):
        found = found[int(part)] if part.isdigit() else getattr(found, part)
    return found


@st.cache_data
def _schema() -> dict[str, Any]:
    return Scenario.model_json_schema()


@st.cache_data
def _schema_of(path: str) -> dict[str, Any]:
    """Return what the schema says about a key: type, enum, limits and description."""
    node, text = _schema(), None
    for part in path.split("."):
        inner = [_inner(form, part) for form in _forms(node)]
        node = next(form for form in inner if form is not None)
        text = node.get("description", text)
    plain = next((form for form in _forms(node) if form.get("type") not in (None, "null")), node)
    return {**plain, "description": text}


def _inner(form: Mapping[str, Any], part: str) -> dict[str, Any] | None:
    """Return the schema of a key of a section, or of the members of a list."""
    found: dict[str, Any] | None = form.get("properties", {}).get(part, form.get("items"))
    return found


def _forms(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a schema and what it refers to and may be instead: a section with a short form has several."""
    found = [dict(node)]
    if "$ref" in node:
        found += _forms(_schema()["$defs"][node["$ref"].rpartition("/")[2]])
    for word in ("anyOf", "oneOf"):
        for form in node.get(word, ()):
            found += _forms(form)
    return found
