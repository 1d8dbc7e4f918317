"""Every engine kind runs every shipped scenario; what it does not read is a warning, the rest is refused."""

from __future__ import annotations

import re

import pytest

from simserve import load_scenario, registry, simulate
from simserve.errors import InputError
from simserve.scenario.checks import check_scenario
from simserve.scenario.engine_build import plan_engine
from simserve.scenario.loader import scenario_names

KINDS = ("sarathi", "vllm-v0", "orca", "static", "dynamic", "tensorrt-llm", "lightllm", "fastserve")
BASE = (
    "model: llama-3.1-8b\n"
    "workload: {arrivals: 10, prompt_tokens: 512, output_tokens: 64, requests: 20}\n"
    "pools: {hardware: h100-sxm, engine: {max_model_len: 2048}}\n"
)
SHIPPED = [name for name in scenario_names() if not name.startswith("benchmarks/")]


def plan(kind: str, *overrides: str):  # type: ignore[no-untyped-def]
    """Return the plan of the pool of BASE."""
    return plan_engine(load_scenario(BASE, [f"pools.0.engine.kind={kind}", *overrides]), 0)


# Scenarios that every kind runs in the default suite; the others in `make test-slow`.
QUICK = ("quickstart", "kv-pressure", "multi-turn", "speculative", "sliding-window", "tensor-parallel")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SHIPPED]
)
def test_every_kind_runs_every_shipped_scenario(kind: str, name: str) -> None:
    scenario = load_scenario(f"scenarios/{name}.yaml")
    overrides = [f"pools.{index}.engine.kind={kind}" for index in range(len(scenario.pools))]
    if not registry.lookup("engine", kind).takes_order:
        overrides += [f"pools.{index}.engine.order=null" for index in range(len(scenario.pools))]
    if scenario.workload.trace is not None:
        overrides.append("workload.trace.limit=10")
    else:
        overrides.append("workload.requests=10")
    result = simulate(load_scenario(f"scenarios/{name}.yaml", overrides), check=True)
    assert result.summary["completed"] > 0
    assert result.summary["unfinished"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_without_changes_gives_no_warning(kind: str) -> None:
    assert check_scenario(load_scenario(BASE, [f"pools.0.engine.kind={kind}"])) == []


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("sarathi", "long_prefill_token_threshold", "64"),
        ("sarathi", "async_scheduling", "true"),
        ("sarathi", "speculative", "{method: ngram, num_speculative_tokens: 2, acceptance: 0.5}"),
        ("vllm-v0", "long_prefill_token_threshold", "64"),
        ("orca", "max_num_batched_tokens", "4096"),
        ("static", "max_num_batched_tokens", "4096"),
        ("dynamic", "scheduler_reserve_full_isl", "true"),
        ("tensorrt-llm", "long_prefill_token_threshold", "64"),
        ("lightllm", "scheduler_reserve_full_isl", "true"),
        ("fastserve", "scheduling_policy", "priority"),
    ],
)
def test_keys_that_a_kind_does_not_read_are_a_warning(kind: str, key: str, value: str) -> None:
    overrides = [f"pools.0.engine.kind={kind}", f"pools.0.engine.{key}={value}"]
    warnings = check_scenario(load_scenario(BASE, overrides))
    assert warnings == [f"pools.0.engine.{key} means nothing for kind {kind!r}"]


def test_options_of_another_kind_are_a_warning() -> None:
    override = "pools.0.engine={kind: orca, options: {reserve: oracle, max_wait_s: 2}}"
    scenario = load_scenario(BASE, [override])
    assert check_scenario(scenario) == ["pools.0.engine.options.max_wait_s means nothing for kind 'orca'"]
    assert simulate(scenario).summary["completed"] == 20


def test_keys_that_are_not_read_change_nothing() -> None:
    config = plan("orca", "pools.0.engine.async_scheduling=true").config
    assert not config.async_scheduling
    assert not config.enable_prefix_caching
    assert config.queue_depth == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_its_own_limits(kind: str) -> None:
    config = plan(kind).config
    limits = registry.lookup("engine", kind).default_limits
    for key, value in limits.items():
        assert getattr(config, key) == value
    assert plan(kind, "pools.0.engine.max_num_seqs=7").config.max_num_seqs == 7


def test_kinds_that_compute_prompts_whole_raise_a_small_budget_and_say_so() -> None:
    built = plan("vllm-v0", "pools.0.engine.max_num_batched_tokens=1024")
    assert built.config.max_num_batched_tokens == 2048
    assert any("computes prompts whole" in note for note in built.notes)


def test_windows_are_kept_in_memory_and_priced_as_windows() -> None:
    override = "model=gemma-2-9b"
    built = plan("sarathi", override)
    assert built.memory.kv_windows == (None,)
    assert built.config.attention_window == 4096
    result = simulate(
        load_scenario(BASE, ["pools.0.engine.kind=sarathi", override, "workload.requests=5"]), check=True
    )
    assert result.summary["completed"] == 5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pools.0.engine={kind: vllm-v0, options: {preemption_mode: swap, swap_space: 0}}"], "host memory"),
        (["pools.0.engine={kind: vllm-v0, options: {swap_spac: 1}}"], "did you mean 'swap_space'"),
        (["pools.0.engine={kind: orca, options: {reserve: mx}}"], "did you mean 'max'"),
        (["pools.0.engine={kind: static, options: {max_wait_s: soon}}"], "expected a number"),
        (["pools.0.engine={kind: sarati}"], "did you mean 'sarathi'"),
        (["pools.0.engine={kind: vllm, order: sjf}"], "has an order of its own; expected no order, or one"),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate(load_scenario(BASE, overrides))


def test_swapping_costs_time() -> None:
    """A pool for two requests, so that some are swapped: over a slower link everything takes longer."""
    engine = "kind: vllm-v0, max_model_len: 640, num_gpu_blocks_override: 100"
    options = "options: {preemption_mode: swap, swap_space: 4}"
    workload = ["workload.arrivals=50", "workload.output_tokens=100"]
    result = simulate(load_scenario(BASE, [f"pools.0.engine={{{engine}, {options}}}", *workload]), check=True)
    assert result.summary["preemptions"] > 0
    assert result.summary["completed"] == 20
    plain = simulate(load_scenario(BASE, [f"pools.0.engine={{{engine}}}", *workload]), check=True)
    assert plain.summary["preemptions"] > 0
    assert plain.summary["duration"] != result.summary["duration"]


@pytest.mark.parametrize("kind", registry.names("engine"))
def test_the_list_names_each_kind_in_a_line_with_its_source(kind: str) -> None:
    about = registry.describe("engine")[kind]
    assert re.search(r"\(\w[^()]+\)\.$", about), about
    assert len(about) <= 105
