"""Scenarios load, and every mistake names its place, what was expected and the nearest valid name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from simserve import registry
from simserve.errors import InputError, ScenarioError
from simserve.scenario.loader import load_scenario, scenario_names

WORKLOAD = "workload: {arrivals: 10, prompt_tokens: 512, output_tokens: 64, requests: 100}\n"
BASE = f"model: llama-3.1-8b\n{WORKLOAD}"
POOL = "pools: {hardware: h100-sxm, engine: {%s}}\n"


def message_of(text: str, *overrides: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(text, overrides)
    return str(caught.value)


def test_short_forms_are_the_long_forms() -> None:
    short = load_scenario(BASE + "pools: h100-sxm\nrouter: round_robin\n")
    long = load_scenario(
        "model: llama-3.1-8b\n"
        "workload:\n"
        "  arrivals: {kind: poisson, rate_per_s: 10}\n"
        "  prompt_tokens: {kind: constant, value: 512}\n"
        "  output_tokens: {kind: constant, value: 64}\n"
        "  requests: 100\n"
        "pools:\n"
        "  - {name: pool, hardware: h100-sxm, replicas: 1, engine: {kind: vllm}, queue: {limit: null}}\n"
        "router: {policy: round_robin}\n"
        "cost: analytic\n"
    )
    assert short == long
    assert load_scenario(BASE + "pools: [h100-sxm]\nrouter: round_robin") == short
    assert load_scenario(BASE + "pools: {hardware: h100-sxm, engine: vllm}\nrouter: round_robin") == short


def test_defaults_are_those_of_the_documentation() -> None:
    engine = load_scenario(BASE + "pools: h100-sxm").pools[0].engine
    assert (engine.kind, engine.version, engine.block_size) == ("vllm", "0.19", 16)
    assert (engine.gpu_memory_utilization, engine.scheduling_policy) == (None, "fcfs")
    assert engine.max_num_seqs is None
    assert engine.async_scheduling is None


@pytest.mark.parametrize("version", ["0.19", "'0.19'", "0.19.0", "v0.19.1"])
def test_versions_are_read_leniently(version: str) -> None:
    scenario = load_scenario(BASE + POOL % f"version: {version}")
    assert scenario.pools[0].engine.version == "0.19"


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (
            "max_num_seq: 64",
            "3:38: unknown key 'pools.0.engine.max_num_seq'; did you mean 'max_num_seqs'?",
        ),
        (
            "max_num_seqs: many",
            "3:52: pools.0.engine.max_num_seqs: expected a whole number, got 'many'",
        ),
        (
            "max_num_seqs: '64'",
            "3:52: pools.0.engine.max_num_seqs: expected a whole number, got '64'",
        ),
        (
            "max_num_seqs: 0",
            "3:52: pools.0.engine.max_num_seqs: expected a number of at least 1, got 0",
        ),
        (
            "block_size: true",
            "3:50: pools.0.engine.block_size: expected a whole number, got true",
        ),
        (
            "gpu_memory_utilization: 1.5",
            "3:62: pools.0.engine.gpu_memory_utilization: expected a number of at most 1, got 1.5",
        ),
        (
            "gpu_memory_utilization: .nan",
            "3:62: pools.0.engine.gpu_memory_utilization: expected a finite number, got nan",
        ),
        (
            "scheduling_policy: priorty",
            "3:57: pools.0.engine.scheduling_policy: expected 'fcfs' or 'priority', got 'priorty'; "
            "did you mean 'priority'?",
        ),
        (
            "kind: vlm",
            "3:44: pools.0.engine.kind: unknown engine 'vlm'; did you mean 'vllm'?",
        ),
        (
            "data_parallel_size: 0",
            "3:58: pools.0.engine.data_parallel_size: expected a number of at least 1, got 0",
        ),
        (
            "max_num_batched_tokens: 64, max_num_seqs: 128",
            "3:62: pools.0.engine.max_num_batched_tokens: 64 is below max_num_seqs (128); "
            "expected at least that",
        ),
        (
            "tensor_parallel_size: 3",
            "3:60: pools.0.engine.tensor_parallel_size: 3 ranks cannot share the 32 attention heads of "
            "llama-3.1-8b equally",
        ),
        (
            "pipeline_parallel_size: 33",
            "3:62: pools.0.engine.pipeline_parallel_size: 33 stages cannot share the 32 layers of "
            "llama-3.1-8b",
        ),
    ],
)
def test_mistakes_in_an_engine(engine: str, expected: str) -> None:
    assert message_of(BASE + POOL % engine) == f"<text>:{expected}"


def test_chunked_prefill_off_needs_a_budget_for_the_longest_prompt() -> None:
    options = "enable_chunked_prefill: false, max_num_batched_tokens: 2048, max_model_len: 4096"
    assert "below max_model_len (4096)" in message_of(BASE + POOL % options)
    options = "enable_chunked_prefill: false, max_num_batched_tokens: 4096, max_model_len: 4096"
    assert load_scenario(BASE + POOL % options).pools[0].engine.max_model_len == 4096


def test_ngram_speculation_does_not_go_with_async_scheduling() -> None:
    speculative = "speculative: {method: ngram, num_speculative_tokens: 3, acceptance: 0.5}"
    assert "async_scheduling: does not work with ngram" in message_of(
        BASE + POOL % f"async_scheduling: true, {speculative}"
    )
    assert load_scenario(BASE + POOL % speculative).pools[0].engine.speculative is not None


def test_acceptance_has_a_probability_a_position() -> None:
    message = message_of(
        BASE + POOL % "speculative: {method: eagle, num_speculative_tokens: 3, acceptance: [0.5, 0.4]}"
    )
    assert "pools.0.engine.speculative.acceptance: has 2 probabilities" in message


def test_all_mistakes_are_reported_in_the_order_of_the_file() -> None:
    message = message_of(
        "model: llama-3.1-8b\nworkload: {arrivals: -3, prompt_tokens: 5, output_tokens: 2, requests: 1}\n"
        "pools:\n  - hardware: h100-sxm\n    replicas: none\n  - replicas: 2\nroutr: random\n"
    )
    places = [line.split(": ")[0] for line in message.splitlines()]
    assert places == ["<text>:2:22", "<text>:5:15", "<text>:6:5", "<text>:7:1"]
    assert "missing key 'pools.1.hardware'; expected: Accelerator" in message
    assert "unknown key 'routr'; did you mean 'router'?" in message
    assert "a number above 0" in message.splitlines()[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n", "<text>: is empty"),
        ("# only a comment\n", "<text>: is empty"),
        ("- 1\n- 2\n", "<text>:1:1: expected a mapping with at least"),
        ("just words\nand more\n", "<text>:1:1: expected a mapping with at least"),
        (f"{WORKLOAD}pools: h100-sxm\n", "has no model"),
        (BASE + "pools: []\n", "<text>:3:8: pools: expected a list of at least 1, got a list of 0"),
        (BASE + "pools: [{name: a, hardware: l4}, {name: a, hardware: l4}]\n", "two pools are named 'a'"),
        (
            BASE + "pools: h100-smx\n",
            "<text>:3:8: pools.0.hardware: unknown hardware 'h100-smx'; did you mean",
        ),
        (
            f"model: llama-3.1-8\n{WORKLOAD}pools: l4\n",
            "<text>:1:8: model: unknown model 'llama-3.1-8'; did you mean",
        ),
        (
            BASE + "pools: l4\nrouter: {policy: round_robbin}\n",
            "<text>:4:18: router.policy: unknown router 'round_robbin'; did you mean 'round_robin'?",
        ),
        (BASE + "pools: l4\ncost: {kind: constant}\n", "constant needs base_s"),
        (BASE + "pools: l4\nslo: {ttft_s: -1}\n", "slo.ttft_s: expected a number above 0"),
        (
            "model: llama-3.1-8b\nworkload: {trace: none.csv}\npools: l4\n",
            "<text>:2:19: workload.trace.path: file not found: none.csv",
        ),
        (
            "model: llama-3.1-8b\nworkload: {trace: {path: traces/chat.csv.gz, format: azur}}\npools: l4\n",
            "<text>:2:54: workload.trace.format: unknown trace format 'azur'; did you mean 'azure'?",
        ),
    ],
)
def test_mistakes_elsewhere(text: str, expected: str) -> None:
    assert expected in message_of(text)


_OWN_CODE = (
    "engine.kind=this:s",
    "engine.order=this:s",
    "engine.order={policy: this:s}",
    "engine.order={policy: sjf, predictor: {kind: this:s}}",
    "engine.kv_cache={eviction: this:s}",
    "engine.options={length_estimate: this:s}",
    "engine.options={deep: [{down: ' this:s '}]}",
)


@pytest.mark.parametrize("kind", registry.names("engine"))
@pytest.mark.parametrize("change", [*_OWN_CODE, "router.policy", "router.fallback"])
def test_policies_of_strangers_import_nothing(
    kind: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    change = f"pools.0.{change}" if change.startswith("engine") else f"{change}=this:s"
    overrides = [f"pools.0.engine.kind={kind}", change]
    with pytest.raises(ScenarioError, match=rf"--set {change.split('=')[0]}.*would import code"):
        load_scenario(BASE + "pools: l4\n", overrides, allow_imports=False)
    assert "this" not in sys.modules


def test_a_process_can_forbid_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_imports_forbidden", False)
    registry.forbid_imports()
    with pytest.raises(InputError, match="would import code"):
        registry.lookup("order", "this:s")
    assert registry.lookup("order", "fcfs")


def test_the_place_of_code_is_told() -> None:
    text = BASE + "pools: l4\nrouter: {policy: 'this:s'}\n"
    with pytest.raises(ScenarioError, match=r"4:18: router\.policy: 'this:s' would import code"):
        load_scenario(text, allow_imports=False)
    assert load_scenario("name: 'a:b'\n" + BASE + "pools: l4\n", allow_imports=False).name == "a:b"
    with pytest.raises(ScenarioError, match=r"expected package\.module:Class"):
        load_scenario(BASE + "pools: l4\nrouter: {policy: 'a b:c'}\n")
    with pytest.raises(ScenarioError, match=r"cannot import router 'simserve\.absent:Nothing'"):
        load_scenario(BASE + "pools: l4\nrouter: {policy: 'simserve.absent:Nothing'}\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("router: {policy: 'os:getcwd'}", r"4:18: .*'os:getcwd' is no router: expected a class with choose"),
        ("router: {policy: 'collections:OrderedDict'}", "is no router"),
    ],
)
def test_only_a_class_of_the_kind_is_a_policy(line: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        load_scenario(BASE + "pools: l4\n" + line + "\n")


def test_an_engine_is_not_called_to_find_out_what_it_is() -> None:
    with pytest.raises(ScenarioError, match="'os:abort' is no engine: expected a class with add, abort"):
        load_scenario(BASE + "pools: {hardware: l4, engine: {kind: 'os:abort'}}\n")


def test_files_are_named_in_messages(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(BASE + "pools: h100-sxm\nsede: 1\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert (caught.value.file, caught.value.line, caught.value.column) == (str(path), 4, 1)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScenarioError, match="no UTF-8 text"):
        load_scenario(path)


def test_missing_files_name_the_nearest_shipped_scenario() -> None:
    with pytest.raises(ScenarioError, match=r"file not found: quikstart\.yaml.*did you mean 'quickstart'"):
        load_scenario("quikstart.yaml")


def test_shipped_scenarios_are_found_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert "benchmarks/2x50k" in scenario_names()
    assert load_scenario("benchmarks/2x50k").pools[0].replicas == 2


def test_folder_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(BASE + "pools: h100-sxm\n")
    assert load_scenario(path).folder == tmp_path
    assert load_scenario(path.read_text()).folder is None
    assert load_scenario(path) == load_scenario(path.read_text())
