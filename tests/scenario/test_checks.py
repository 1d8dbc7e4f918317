"""Keys without effect are warned of, and only those."""

from __future__ import annotations

import pytest

from simserve.scenario.checks import check_scenario
from simserve.scenario.loader import load_scenario
from simserve.scheduler.vllm.stepwise import StepwiseScheduler

BASE = (
    "model: llama-3.1-8b\n"
    "workload: {arrivals: 10, prompt_tokens: 512, output_tokens: 64, requests: 100}\n"
    "pools: {hardware: h100-sxm, replicas: 2}\n"
)


def test_defaults_give_no_warning() -> None:
    assert check_scenario(load_scenario(BASE)) == []


@pytest.mark.parametrize(
    ("overrides", "warning"),
    [
        (["router.view=tree"], "router.view means nothing for policy 'least_outstanding'"),
        (
            ["router.policy=random", "router.threshold=0.9"],
            "router.threshold means nothing for policy 'random'",
        ),
        (["pools.0.replicas=1", "router.policy=random"], "router.policy 'random' has no choice"),
        (["pools.0.queue.policy=shed"], "pools.0.queue.policy means nothing without a limit"),
        (["cost.per_decode_s=0.1"], "cost.per_decode_s means nothing for kind 'analytic'"),
        (
            ["cost={kind: constant, base_s: 0.1, per_decode_s: 1}"],
            "cost.per_decode_s means nothing for kind 'constant'",
        ),
        (
            ["pools.0.engine.num_gpu_blocks_override=100", "pools.0.engine.gpu_memory_utilization=0.5"],
            "pools.0.engine.gpu_memory_utilization means nothing with num_gpu_blocks_override",
        ),
        (
            ["pools.0.engine.enable_chunked_prefill=false", "pools.0.engine.long_prefill_token_threshold=64"],
            "pools.0.engine.long_prefill_token_threshold splits prompts although",
        ),
        (["pools.0.engine.options={a: 1}"], "pools.0.engine.options (a) mean nothing to kind 'vllm'"),
        (
            [
                "pools.0.engine.speculative="
                "{method: ngram, num_speculative_tokens: 2, acceptance: 0.5, model: llama-3.2-1b}"
            ],
            "pools.0.engine.speculative.model means nothing for method 'ngram'",
        ),
        (
            ["cost={kind: constant, base_s: 0.1}", "pools.0.engine.enforce_eager=true"],
            "pools.0.engine.enforce_eager does not change step times",
        ),
    ],
)
def test_keys_without_effect(overrides: list[str], warning: str) -> None:
    warnings = check_scenario(load_scenario(BASE, overrides))
    assert [text.startswith(warning) for text in warnings] == [True]


def test_an_engine_names_the_keys_it_does_not_read() -> None:
    overrides = [f"pools.0.engine.kind={__name__}:Static", "pools.0.engine.max_num_batched_tokens=4096"]
    warnings = check_scenario(load_scenario(BASE, overrides))
    assert warnings == [f"pools.0.engine.max_num_batched_tokens means nothing for kind '{__name__}:Static'"]


class Static(StepwiseScheduler):
    """An engine without a token budget."""

    unused_keys = ("max_num_batched_tokens", "enable_prefix_caching")
