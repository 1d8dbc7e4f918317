"""The schema agrees with the rooms that read it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

from simserve import registry
from simserve.cost.host_profiles import HOST_PROFILES
from simserve.model.dtype import DTYPE_BYTES, QUANTIZATION_NAMES, normalise_dtype
from simserve.model.kv_format import KV_FORMATS, kv_format
from simserve.scenario.engine_schema import (
    DType,
    Engine,
    HostProfileName,
    KVCacheDType,
    Quantization,
    Speculative,
)
from simserve.scenario.kv_cache_schema import KVCache, Tier
from simserve.scenario.schema import Cost, Metrics, Pool, Queue, Router, Scenario, Slo


def test_quantizations_are_those_of_the_models() -> None:
    assert set(get_args(Quantization)) == set(QUANTIZATION_NAMES)


def test_host_profiles_are_those_of_the_cost_model() -> None:
    assert set(get_args(HostProfileName)) == set(HOST_PROFILES)


@pytest.mark.parametrize("name", get_args(DType))
def test_dtypes_are_known_to_the_models(name: str) -> None:
    assert normalise_dtype(name) in DTYPE_BYTES


@pytest.mark.parametrize("name", get_args(KVCacheDType))
def test_kv_formats_are_known_to_the_models(name: str) -> None:
    assert kv_format(name).name in KV_FORMATS


@pytest.mark.parametrize("policy", registry.names("router"))
def test_router_options_and_defaults_are_those_of_the_class(policy: str) -> None:
    defaults = registry.lookup("router", policy).option_defaults
    router = Router(policy=policy)
    assert router.arguments(defaults) == dict(defaults)
    assert set(defaults) <= set(Router.model_fields)


def test_options_of_your_own_are_passed_on() -> None:
    router = Router(policy="a:B", threshold=0.2, options={"depth": 3})
    assert router.arguments({"threshold": 0.5, "depth": 1}) == {"threshold": 0.2, "depth": 3}


def test_auto_is_the_default() -> None:
    engine = Engine.model_validate({"dtype": "auto", "kv_cache_dtype": "auto"})
    assert (engine.dtype, engine.kv_cache_dtype) == (None, None)
    assert engine == Engine()


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Engine().block_size = 32


@pytest.mark.parametrize(
    "cost",
    [
        {"kind": "constant"},
        {"kind": "linear"},
        {"kind": "linear", "per_context_token_s": 1e-6},
        {"base_s": -1.0},
    ],
)
def test_steps_take_time(cost: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Cost.model_validate(cost)


@pytest.mark.parametrize(
    "section", [Scenario, Pool, Engine, KVCache, Tier, Speculative, Queue, Router, Slo, Metrics, Cost]
)
def test_the_reference_lists_every_key(section: type[BaseModel]) -> None:
    page = Path(__file__).parents[2].joinpath("docs", "reference", "scenario.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for key, field in section.model_fields.items():
        matches = [
            row for row in rows if row.startswith(f"| `{key}` |") and f"| {field.description} |" in row
        ]
        assert len(matches) >= 1, f"docs/reference/scenario.md lacks {section.__name__}.{key}"
