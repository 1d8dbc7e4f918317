"""A key that stands at the wrong place is told where it belongs, in `--set` and in a file alike."""

from __future__ import annotations

import pytest

from simserve.errors import ScenarioError
from simserve.scenario.loader import load_scenario

BASE = """\
model: llama-3.1-8b
workload: {arrivals: 10, prompt_tokens: 512, output_tokens: 64, requests: 100}
pools:
  - hardware: h100-sxm
"""


def message_of(text: str, *overrides: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(text, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("hardware=l40s", "'pools.0.hardware'"),
        ("trace=traces/chat.csv.gz", "'workload.trace'"),
        ("trace.path=traces/chat.csv.gz", "'workload.trace'"),
        ("engine.kind=static", "'pools.0.engine'"),
        ("pools.0.max_num_seqs=4", "'pools.0.engine.max_num_seqs'"),
        ("pools.0.engine.hardware=l4", "'pools.0.hardware'"),
        ("pools.hardware=l4", "'pools.0.hardware'"),
        ("limit=3", "'workload.trace.limit' or 'pools.0.queue.limit'"),
        ("policy=x", "'router.policy', 'pools.0.queue.policy' or 'pools.0.engine.order.policy'"),
        # In the section that was named, although the same key stands in a shorter path.
        ("workload.trace.rate_per_s=4", "'workload.trace.arrivals.rate_per_s'"),
        # Misspelt, too.
        ("max_num_seq=4", "'pools.0.engine.max_num_seqs'"),
        # Without its unit.
        ("slo.ttft=1", "'ttft_s'"),
        ("ttft=1", "'slo.ttft_s'"),
        # A near name of the same section goes before the same key of another.
        ("pools.0.engin.kind=vllm", "'engine'"),
    ],
)
def test_a_misplaced_override_is_told_the_path(override: str, meant: str) -> None:
    assert message_of(BASE, override).endswith(f"; did you mean {meant}?")


def test_the_index_of_the_list_is_kept() -> None:
    text = BASE + "  - {name: b, hardware: l4}\n"
    assert "'pools.1.engine.block_size'" in message_of(text, "pools.1.block_size=32")


def test_a_misplaced_key_of_a_file_is_told_the_path_and_its_place() -> None:
    message = message_of(BASE + "    max_num_seqs: 64\n")
    assert message == (
        "<text>:5:5: unknown key 'pools.0.max_num_seqs'; did you mean 'pools.0.engine.max_num_seqs'?"
    )


def test_a_key_like_no_other_lists_those_of_its_section() -> None:
    assert message_of(BASE, "foobar=1").endswith(
        "valid: cost, metrics, model, name, pools, router, seed, slo, workload"
    )


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("pools.0.hardware=4090", "expected text, got 4090; did you mean 'rtx-4090'?"),
        ("model=8", "expected text, got 8; the names are those of `simserve list models`"),
        ("pools.0.hardware=null", "pools.0.hardware: expected text, got null"),
    ],
)
def test_a_name_that_yaml_reads_as_a_number(override: str, hint: str) -> None:
    assert message_of(BASE, override).endswith(hint)
