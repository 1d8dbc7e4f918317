"""A scenario written out loads to itself, and the committed JSON schema is the models'."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.data_files import data_folder
from simserve.scenario.dump import dump_scenario, json_schema
from simserve.scenario.engine_schema import Engine, Speculative
from simserve.scenario.loader import load_scenario
from simserve.scenario.schema import Cost, Metrics, Pool, Queue, Router, Scenario, Slo, SloTargets
from simserve.scenario.workload_schema import WorkloadSpec

WORKLOAD = WorkloadSpec.model_validate(
    {
        "arrivals": "12/s",
        "prompt_tokens": {"quantiles": {0: 1, 0.5: 300, 1: 4000}},
        "output_tokens": {"median": 100, "sigma": 0.5},
        "requests": 10,
        "tenants": {"a": 1, "b": 2.5},
    }
)

_NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Zl", "Zp"]), min_size=1, max_size=12)
_SECONDS = st.floats(1e-6, 1e6)
_SPECULATIVE = st.builds(
    Speculative,
    method=st.sampled_from(["ngram", "eagle"]),
    num_speculative_tokens=st.just(2),
    acceptance=st.floats(0, 1) | st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
_ENGINES = st.builds(
    Engine,
    max_num_seqs=st.none() | st.integers(1, 512),
    max_num_batched_tokens=st.none() | st.integers(512, 16384),
    gpu_memory_utilization=st.floats(0.01, 1),
    dtype=st.sampled_from([None, "bfloat16", "float16"]),
    quantization=st.sampled_from([None, "fp8", "awq"]),
    enable_prefix_caching=st.booleans(),
    scheduler_reserve_full_isl=st.none() | st.booleans(),
    speculative=st.none() | _SPECULATIVE,
    options=st.dictionaries(
        _NAMES, st.none() | st.booleans() | st.integers() | _SECONDS | _NAMES, max_size=3
    ),
)
_POOLS = st.builds(
    Pool,
    name=_NAMES,
    replicas=st.integers(1, 99),
    hardware=st.just("h100-sxm"),
    engine=_ENGINES,
    queue=st.builds(Queue, limit=st.none() | st.integers(0, 9), policy=st.sampled_from(["reject", "shed"])),
)
_TARGETS = st.builds(SloTargets, ttft_s=st.none() | _SECONDS, tpot_s=st.none() | _SECONDS)
_SCENARIOS = st.builds(
    Scenario,
    name=_NAMES,
    seed=st.integers(0, 2**63 - 1),
    model=st.just("llama-3.1-8b"),
    workload=st.just(WORKLOAD),
    pools=st.lists(_POOLS, min_size=1, max_size=3, unique_by=lambda pool: pool.name).map(tuple),
    router=st.builds(Router, policy=st.just("prefix_aware"), view=st.sampled_from(["cache", "tree"])),
    slo=st.builds(Slo, e2el_s=st.none() | _SECONDS, classes=st.dictionaries(_NAMES, _TARGETS, max_size=2)),
    metrics=st.builds(Metrics, warmup_s=_SECONDS),
    cost=st.just(Cost()) | st.builds(Cost, kind=st.just("constant"), base_s=st.floats(1e-6, 3600)),
)


@settings(max_examples=60)
@given(_SCENARIOS)
def test_dumped_text_loads_to_the_same_scenario(scenario: Scenario) -> None:
    text = dump_scenario(scenario)
    loaded = load_scenario(text)
    assert loaded == scenario
    assert dump_scenario(loaded) == text


def test_null_options_of_engines_of_your_own_survive() -> None:
    engine = Engine(options={"depth": None, "rate": 1e-05, "name": "1e5"})
    scenario = Scenario(model="llama-3.1-8b", workload=WORKLOAD, pools=(Pool(hardware="l4", engine=engine),))
    assert load_scenario(dump_scenario(scenario)).pools[0].engine.options == engine.options


def test_files_beside_the_scenario_become_absolute(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("num_prefill_tokens,num_decode_tokens\n5,5\n")
    path = tmp_path / "mine.yaml"
    path.write_text("model: llama-3.1-8b\nworkload: {trace: {path: mine.csv, arrivals: 3}}\npools: l4\n")
    text = dump_scenario(load_scenario(path))
    again = load_scenario(text)
    assert again.workload.trace is not None
    assert again.workload.trace.path == str(tmp_path / "mine.csv")
    assert again.folder is None


def test_packaged_files_keep_their_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (
        "model: models/llama-3.1-8b.json\n"
        "workload: {arrivals: 3, prompt_tokens: 2, output_tokens: 2, requests: 3}\n"
        "pools: hardware/l4.yaml\n"
    )
    in_checkout = load_scenario(text)
    monkeypatch.chdir(tmp_path)
    elsewhere = load_scenario(text)
    for scenario in (in_checkout, elsewhere):
        assert load_scenario(dump_scenario(scenario)).model == "models/llama-3.1-8b.json"
        assert scenario.pools[0].hardware == "hardware/l4.yaml"


def test_committed_schema_is_current() -> None:
    committed = json.loads((data_folder("scenarios") / "schema.json").read_text(encoding="utf-8"))
    assert committed == json_schema(), "write it again: simserve schema > scenarios/schema.json"


def test_every_key_is_described() -> None:
    schema = json_schema()
    models = [schema, *schema["$defs"].values()]
    bare = [
        f"{model.get('title')}.{key}"
        for model in models
        for variant in (model, *model.get("anyOf", ()))
        for key, entry in variant.get("properties", {}).items()
        if not entry.get("description")
    ]
    assert bare == []
