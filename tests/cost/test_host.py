"""Host time and CUDA graphs: what of them a step shows."""

from __future__ import annotations

import pytest

from simserve.cost.build import CostSpec, ExplainableTimer, build_timers
from simserve.cost.fusion import FUSION_RULES, default_fusion
from simserve.cost.graphs import capture_sizes
from simserve.cost.host import HostProfile, HostTime, resolve_host
from simserve.cost.host_profiles import HOST_PROFILES, host_profile
from simserve.cost.timer import Chunk
from simserve.errors import UnknownNameError
from simserve.scenario.catalog import load_hardware, load_model

PROFILE = HostProfile(2e-3, 1e-5, 3e-3, 1e-5, 1e-5, 0.5e-3, uses_graphs=True, overlaps=False)


def timer(host: HostTime, quantization: str | None = None, fusion: str | None = None) -> ExplainableTimer:
    shape, accelerator = load_model("llama-3.1-8b"), load_hardware("h100-sxm")
    return build_timers(CostSpec(), shape, accelerator, quantization=quantization, fusion=fusion, host=host)[
        0
    ]


def test_capture_sizes_are_vllms() -> None:
    assert capture_sizes(256)[:7] == (1, 2, 4, 8, 16, 24, 32)
    assert len(capture_sizes(256)) == 3 + 31 + 17
    assert capture_sizes(256)[-1] == capture_sizes(1024)[-1] == 512
    assert capture_sizes(5) == (1, 2, 4, 8)


def test_a_batch_is_padded_to_the_next_captured_size() -> None:
    graphs = timer(HostTime(graph_sizes=capture_sizes(256)))
    plain = timer(HostTime())
    assert graphs.decode_ns(9, 9000, 0, 1) > plain.decode_ns(9, 9000, 0, 1)
    nine = {row.operator: row for row in graphs.explain(9, 9000, 0, [], 9)}
    sixteen = {row.operator: row for row in graphs.explain(16, 16000, 0, [], 16)}
    assert nine["qkv"].seconds == sixteen["qkv"].seconds
    assert nine["attention_decode"].seconds < sixteen["attention_decode"].seconds
    assert nine["lm_head"].flops < sixteen["lm_head"].flops
    large = [Chunk(600, 0)]
    assert graphs.batch_ns(0, 0, 0, large, 1) == plain.batch_ns(0, 0, 0, large, 1)


def test_hidden_host_time_is_a_floor_and_shown_host_time_is_added() -> None:
    none = timer(HostTime()).decode_ns(16, 32000, 0, 1)[0]
    shown = timer(resolve_host(PROFILE, ranks=1, overlaps=False, graph_sizes=()))
    assert shown.decode_ns(16, 32000, 0, 1)[0] == pytest.approx(none + 2e6 + 16 * 1e4, abs=2)
    hidden = timer(resolve_host(PROFILE, ranks=1, overlaps=True, graph_sizes=(512,)))
    assert hidden.decode_ns(16, 32000, 0, 1) != [none]  # padded to 512
    assert timer(HostTime(hidden_step_s=1e-3)).decode_ns(16, 32000, 0, 1) == [none]
    assert timer(HostTime(hidden_step_s=1.0)).decode_ns(16, 32000, 0, 3) == [10**9] * 3
    ahead = resolve_host(PROFILE, ranks=1, overlaps=True, graph_sizes=())
    assert (ahead.step_s, ahead.hidden_step_s) == (0.5e-3, 1.5e-3)
    several = resolve_host(PROFILE, ranks=2, overlaps=False, graph_sizes=())
    assert several.step_s == pytest.approx(5e-3)


def test_without_graphs_a_step_is_no_shorter_than_its_launches() -> None:
    slow = timer(HostTime(launch_s=1e-3))
    rows = slow.explain(4, 4000, 0, [], 4)
    launches = sum(row.launches for row in rows if row.family != "host")
    assert slow.decode_ns(4, 4000, 0, 1)[0] == pytest.approx(launches * 1e6, abs=2)
    assert sum(row.seconds for row in rows) == pytest.approx(launches * 1e-3)
    assert slow.bound_seconds(4, 4000, 0, [], 4)["overhead"] > 0.8 * launches * 1e-3
    captured = timer(HostTime(launch_s=1e-3, graph_sizes=(4,)))
    assert captured.decode_ns(4, 4000, 0, 1)[0] < launches * 1e5
    assert captured.decode_ns(5, 5000, 0, 1)[0] == pytest.approx(launches * 1e6, abs=2)


def test_an_eager_model_launches_more_slowly_than_a_compiled_one() -> None:
    profile = host_profile("vllm-0.19")
    assert resolve_host(profile, ranks=1, overlaps=None, graph_sizes=(8,)).launch_s == profile.launch_s
    eager = resolve_host(profile, ranks=1, overlaps=None, graph_sizes=())
    assert eager.launch_s == profile.eager_launch_s > profile.launch_s
    # 294 launches of 30 us: an eager 8B model is bound by its host at small batches.
    assert timer(eager).decode_ns(1, 100, 0, 1)[0] > 8e6 > timer(HostTime()).decode_ns(1, 100, 0, 1)[0]


def test_a_compiled_model_rotates_queries_and_keys_where_it_normalises_them() -> None:
    accelerator = load_hardware("h100-sxm")

    def operators(model: str, fusion: str) -> set[str]:
        built = build_timers(CostSpec(), load_model(model), accelerator, fusion=fusion)[0]
        return {row.operator for row in built.explain(4, 4000, 0, [], 4)}

    assert "rope" in operators("llama-3.1-8b", "compiled")
    assert "rope" not in operators("qwen3-14b", "compiled")
    assert {"rope", "qk_norm"} <= operators("qwen3-14b", "eager")


def test_steps_with_host_time_are_the_same_one_by_one() -> None:
    it = timer(HostTime(1e-4, 1e-6, 9e-3, 1e-6, 1e-6, capture_sizes(64)))
    together = it.decode_ns(100, 100 * 2000, 0, 300)
    assert together == [it.decode_ns(100, 100 * (2000 + j), 0, 1)[0] for j in range(300)]


def test_profiles_are_found_by_name() -> None:
    assert host_profile("vllm-0.2").launch_s > host_profile("vllm-0.19").launch_s
    assert all(profile.source for profile in HOST_PROFILES.values())
    with pytest.raises(UnknownNameError, match="vllm"):
        host_profile("vllm-0.3")


def test_fusion_rules() -> None:
    assert default_fusion(load_hardware("h100-sxm")) == "compiled"
    assert default_fusion(load_hardware("b200-sxm")) == "flashinfer"
    assert default_fusion(load_hardware("rtx-pro-6000-server")) == "compiled"  # no NVLink
    steps = {}
    for rule in FUSION_RULES:
        it = timer(HostTime(), quantization="fp8", fusion=rule)
        steps[rule] = {row.operator for row in it.explain(8, 8000, 0, [], 8)}
    assert "quantize_qkv_after_norm" in steps["eager"]
    assert "quantize_qkv_after_norm" not in steps["compiled"]
    assert "quantize_attention_output" in steps["compiled"]
    assert "quantize_attention_output" not in steps["flashinfer"]
    assert "norm" in steps["flashinfer"]  # one rank: nothing to fuse it with
