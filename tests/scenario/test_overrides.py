"""`--set` reaches any key of the long form, and names itself in errors."""

from __future__ import annotations

import pytest

from simserve.errors import ScenarioError
from simserve.scenario.loader import load_scenario

BASE = (
    "model: llama-3.1-8b\n"
    "workload: {arrivals: 10, prompt_tokens: 512, output_tokens: 64, requests: 100}\n"
    "pools: h100-sxm\n"
)


def test_keys_of_the_long_form_are_reached_from_short_forms() -> None:
    scenario = load_scenario(
        BASE,
        [
            "pools.0.engine.max_num_seqs=64",
            "pools.0.replicas=3",
            "router.policy=random",
            "workload.arrivals.rate_per_s=2.5",
            "workload.prompt_tokens.value=9",
            "slo.ttft_s=1e-1",
            "pools.0.engine.speculative={method: eagle, num_speculative_tokens: 2, acceptance: [0.5, 0.4]}",
            "name=a: b",
        ],
    )
    assert scenario.pools[0].engine.max_num_seqs == 64
    assert scenario.pools[0].replicas == 3
    assert scenario.router.policy == "random"
    assert scenario.workload.arrivals is not None
    assert scenario.workload.arrivals.rate_per_s == 2.5
    assert scenario.workload.prompt_tokens is not None
    assert scenario.workload.prompt_tokens.value == 9
    assert scenario.slo.ttft_s == 0.1
    assert scenario.name == "a: b"
    assert scenario.pools[0].engine.speculative is not None
    assert scenario.pools[0].engine.speculative.acceptance == (0.5, 0.4)


def test_short_forms_inside_sections_are_opened() -> None:
    text = BASE.replace("requests: 100", "requests: 100, prefixes: {groups: 2, tokens: 50}")
    scenario = load_scenario(text, ["workload.prefixes.tokens.value=70"])
    assert scenario.workload.prefixes is not None
    assert scenario.workload.prefixes.tokens.value == 70


def test_later_overrides_win_and_null_resets() -> None:
    scenario = load_scenario(BASE, ["pools.0.queue.limit=5", "pools.0.queue.limit=null", "seed=1", "seed=2"])
    assert scenario.pools[0].queue.limit is None
    assert scenario.seed == 2


def test_short_values_are_expanded_after_an_override() -> None:
    scenario = load_scenario(BASE, ["pools=[h100-sxm, l4]", "router=round_robin", "pools.1.replicas=2"])
    assert [pool.name for pool in scenario.pools] == ["pool-0", "pool-1"]
    assert scenario.pools[1].replicas == 2
    assert scenario.router.policy == "round_robin"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "pools.0.engine.max_num_seq=64",
            "unknown key 'pools.0.engine.max_num_seq'; did you mean 'max_num_seqs'?",
        ),
        ("pools.0.engin.max_num_seqs=64", "unknown key 'pools.0.engin'; did you mean 'engine'?"),
        ("pools.0.replicas=-1", "pools.0.replicas: expected a number of at least 1, got -1"),
        ("pools.1.replicas=1", "'pools' has 1 entries, counted from 0; got index 1"),
        ("pools.chat.replicas=1", "'pools' is a list; expected an index such as pools.0, got 'chat'"),
        ("model.name=x", "'model' is 'llama-3.1-8b' and has no key 'name'"),
        ("seed", "expected path=value, such as pools.0.engine.max_num_seqs=64"),
        ("=3", "expected path=value, such as pools.0.engine.max_num_seqs=64"),
        ("pools.0.hardware=h101", "pools.0.hardware: unknown hardware 'h101'"),
        ("seed=[!!python/name:os.system x]", "tag !!python/name:os.system"),
        ("seed=[1", "not valid YAML"),
    ],
)
def test_mistakes_name_the_override(override: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(BASE, [override])
    assert caught.value.file == f"--set {override}"
    assert message in caught.value.message


def test_unrelated_mistakes_keep_their_line() -> None:
    with pytest.raises(ScenarioError, match=r"<text>:4:1: unknown key 'sed'"):
        load_scenario(BASE + "sed: 1\n", ["pools.0.replicas=2"])


def test_pools_as_a_mapping_keep_their_places() -> None:
    text = BASE.replace("pools: h100-sxm", "pools:\n  hardware: h100-sxm\n  replica: 2")
    with pytest.raises(ScenarioError, match=r"<text>:5:3: unknown key 'pools.0.replica'"):
        load_scenario(text, ["seed=3"])


def test_a_duration_with_a_unit_is_told_in_seconds() -> None:
    with pytest.raises(
        ScenarioError, match=r"slo.ttft_s: expected a number, got '500ms'; it is in seconds: 0.5"
    ):
        load_scenario("quickstart", ["slo.ttft_s=500ms"])
