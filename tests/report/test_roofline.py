"""The roofline of a step: the work is counted right, the times add up, and nothing beats the hardware."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import simserve
from simserve.errors import InputError, UnknownNameError
from simserve.report.roofline import roofline
from simserve.report.roofline_rows import Roofline, RooflineRow
from simserve.report.what_if import WhatIf, parse_what_if
from simserve.scenario.catalog import load_hardware

LAYERS, HIDDEN, QKV = 32, 4096, 6144  # of llama-3.1-8b


def rows_of(found: Roofline) -> dict[str, RooflineRow]:
    return {row.operator: row for row in found.step.rows}


@pytest.fixture(scope="module")
def decode() -> Roofline:
    return roofline("llama-3.1-8b", "h100-sxm", batch=32, context=4096)


def test_the_public_name_is_this_function() -> None:
    assert simserve.roofline is roofline


def test_work_is_counted_from_first_principles(decode: Roofline) -> None:
    qkv = rows_of(decode)["qkv"]
    assert qkv.launches == LAYERS
    assert qkv.flops == 2 * 32 * QKV * HIDDEN * LAYERS
    moved = 2 * (QKV * HIDDEN + 32 * (QKV + HIDDEN)) * LAYERS
    assert qkv.moved_bytes == pytest.approx(moved, rel=0.01)
    assert qkv.intensity == pytest.approx(qkv.flops / moved, rel=0.01)
    attention = next(row for name, row in rows_of(decode).items() if name.startswith("attention_decode"))
    kv_bytes = 2 * 2 * 8 * 128 * 32 * 4096 * LAYERS
    assert attention.moved_bytes == pytest.approx(kv_bytes, rel=0.02)


@pytest.mark.parametrize(
    ("model", "hardware", "options"),
    [
        ("llama-3.1-8b", "h100-sxm", {"batch": 1}),
        ("llama-3.1-70b", "b200-sxm", {"batch": 64, "tensor_parallel_size": 4, "quantization": "fp8"}),
        ("qwen3-30b-a3b", "rtx-pro-6000-server", {"batch": 8, "prefill": 500}),
        ("deepseek-v3", "h200-sxm", {"batch": 16, "tensor_parallel_size": 8}),
        ("gemma-3-27b", "mi300x", {"batch": 0, "prefill": 4096}),
    ],
)
def test_times_add_up_and_nothing_beats_light(model: str, hardware: str, options: dict[str, int]) -> None:
    found = roofline(model, hardware, context=2048, **options)  # type: ignore[arg-type]
    step = found.step
    assert step.step_s == pytest.approx(sum(row.seconds for row in step.rows))
    assert sum(row.share for row in step.rows) == pytest.approx(1.0)
    for row in step.rows:
        assert row.speed_of_light is None or 0 < row.speed_of_light <= 1.0 + 1e-9, row
        assert row.bound in ("compute", "bandwidth", "communication", "overhead")
        assert row.tier


def test_more_bandwidth_helps_what_waits_for_it(decode: Roofline) -> None:
    found = roofline("llama-3.1-8b", "h100-sxm", batch=32, context=4096, what_if="bandwidth=2x")
    assert found.changed is not None
    assert found.step == decode.step
    changed = {row.operator: row for row in found.changed.rows}
    for name, row in rows_of(found).items():
        assert changed[name].seconds <= row.seconds * (1 + 1e-9), name
    qkv = rows_of(found)["qkv"]
    assert qkv.bound == "bandwidth"
    assert changed["qkv"].seconds < 0.75 * qkv.seconds


def test_slower_links_slow_collectives_alone() -> None:
    options = {"batch": 256, "context": 1024, "tensor_parallel_size": 4}
    found = roofline("llama-3.1-70b", "h100-sxm", what_if=WhatIf(link=0.25), **options)  # type: ignore[arg-type]
    assert found.changed is not None
    for before, after in zip(found.step.rows, found.changed.rows, strict=True):
        if before.bound == "communication":
            assert after.seconds > 1.2 * before.seconds, before.operator
        else:
            assert after.seconds == before.seconds, before.operator


def test_factors_scale_every_rate_of_an_accelerator() -> None:
    h100 = load_hardware("h100-sxm")
    scaled = parse_what_if("bandwidth=2x, flops=1.5,link=0.5X").scale(h100)
    assert scaled.memory_bandwidth_bytes_per_s == 2 * h100.memory_bandwidth_bytes_per_s
    assert scaled.peak_flops == {dtype: 1.5 * rate for dtype, rate in h100.peak_flops.items()}
    assert scaled.link_bytes_per_s == 0.5 * h100.link_bytes_per_s
    assert (scaled.sms, scaled.memory_bytes) == (h100.sms, h100.memory_bytes)
    assert str(parse_what_if("flops=3x")) == "flops=3x"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bandwith=2x", "did you mean 'bandwidth'"),
        ("bandwidth=-2x", "positive factor like 2x, got '-2x'"),
        ("bandwidth=0", "positive factor"),
        ("flops", "positive factor"),
        ("link=1.2.3x", "positive factor"),
        ("link=2x,link=3x", "given twice"),
        ("", "unknown what-if rate ''"),
    ],
)
def test_wrong_factors_are_refused(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        parse_what_if(text)


def test_a_pipeline_does_the_same_work_and_sends_it_on(decode: Roofline) -> None:
    found = roofline("llama-3.1-8b", "h100-sxm", batch=32, context=4096, pipeline_parallel_size=4)
    rows = rows_of(found)
    assert rows["send"].launches == 3
    assert rows["qkv"].flops == rows_of(decode)["qkv"].flops
    assert sum(row.flops for row in rows.values()) == sum(row.flops for row in decode.step.rows)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"batch": -1}, {"context": 0}, {"prefill": -5}])
def test_an_empty_step_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="roofline:"):
        roofline("llama-3.1-8b", "h100-sxm", **wrong)  # type: ignore[arg-type]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean"):
        roofline("llama-3.1-8c", "h100-sxm")


def test_the_command_prints_a_table_and_json(run_cli: Callable[..., CompletedProcess[str]]) -> None:
    words = ("roofline", "llama-3.1-8b", "--hardware", "h100-sxm", "--tp", "2", "--what-if", "bandwidth=2x")
    done = run_cli(*words)
    assert done.returncode == 0, done.stderr
    assert "what if: bandwidth=2x" in done.stdout
    report = json.loads(run_cli(*words, "--json").stdout)
    operators = report["operators"]
    assert all(operator["operator"] in done.stdout for operator in operators)
    assert set(operators[0]["calibration"]) == {"tier", "source", "error_percent"}
    assert report["tensor_parallel_size"] == 2
    assert report["what_if"]["bandwidth"] == 2.0
    assert report["what_if"]["step_s"] < report["step_s"]
    assert run_cli("roofline", "llama-3.1-8b", "--hardware", "h100").returncode == 0
    wrong = run_cli("roofline", "llama-3.1-8b", "--hardware", "h100-sxm", "--what-if", "speed=2x")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Traceback" not in wrong.stderr


def test_the_page_works_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the extra dashboard is not installed")
    from simserve.report.roofline_page import draw_roofline, write_page

    found = roofline("llama-3.1-8b", "h100-sxm", batch=32, context=4096, prefill=512, what_if="flops=2x")
    figure = draw_roofline(found)
    points = [trace for trace in figure.data if trace.mode == "markers"]
    drawn = " ".join(text for trace in points for text in trace.customdata)
    assert {name for name in ("qkv", "mlp_down", "mlp_up", "lm_head") if f"<b>{name}</b>" in drawn} == {
        "qkv", "mlp_down", "mlp_up", "lm_head"
    }  # fmt: skip
    names = figure.layout.annotations
    large = {row.operator for row in found.step.rows if row.share >= 0.03 and row.intensity}
    assert {name.text.split()[0] for name in names} == large
    for one, other in combinations(names, 2):
        if abs(one.x - other.x) < 0.1 and abs(one.y - other.y) < 0.01:
            assert abs(one.ay - other.ay) > 10, "no two names in one place"
    ridge = found.step.peak_flops["bfloat16"] / found.step.bytes_per_s
    assert any(trace.mode == "lines" and ridge in trace.x for trace in figure.data)
    assert [trace.name for trace in figure.data if trace.mode == "lines"] == [
        "bfloat16 989.4 TFLOP/s", f"bfloat16 1,979 TFLOP/s ({found.what_if})"
    ], "roofs of what is computed in"  # fmt: skip
    apart = sum(row.share for row in found.step.rows if not row.intensity)
    assert f"without FLOPs: {apart:.1%} of the step (" in figure.layout.title.text
    page = tmp_path / "roofline.html"
    write_page(found, page)
    text = page.read_text()
    assert "<script src=" not in text
    assert all(f"<td>{row.operator}</td>" in text for row in found.step.rows)
    with pytest.raises(InputError, match="cannot write the page"):
        write_page(found, page / "below-a-file.html")


def test_without_plotly_the_page_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from simserve.report.roofline_page import write_page

    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(InputError, match=r"pip install 'simserve\[dashboard\]'"):
        write_page(roofline("llama-3.1-8b", "h100-sxm"), tmp_path / "roofline.html")


def test_flash_blocks_are_swept_against_the_sram() -> None:
    found = roofline("llama-3.1-8b", "h100-sxm", batch=0, prefill=4096, flash_block="16,64x32,1024")
    own, small, middle, large = found.flash_blocks
    assert own.chosen
    assert not any(block.chosen for block in (small, middle, large))
    assert (small.query_rows, small.key_rows, middle.key_rows) == (16, 16, 32)
    assert middle.sram_bytes == (64 + 2 * 32) * 128 * 2
    assert small.seconds > own.seconds, "small tiles re-read keys and values more often"
    assert large.sram_bytes > 256 * 1024
    assert large.fitted_query_rows < large.query_rows, "what does not fit is halved"
    attention = next(row for row in found.step.rows if row.operator.startswith("attention_prefill"))
    assert own.seconds == pytest.approx(attention.seconds, rel=0.3), "residuals belong to the step alone"


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("llama-3.1-8b", {"prefill": 64, "flash_block": "64y32"}, "expected sizes like 64,128 or 128x64"),
        ("llama-3.1-8b", {"flash_block": "64"}, "the step needs a prompt"),
        ("deepseek-v2-lite", {"prefill": 64, "flash_block": "64"}, "is no FlashAttention"),
    ],
)
def test_wrong_flash_blocks_are_refused(model: str, options: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        roofline(model, "h100-sxm", **options)  # type: ignore[arg-type]


def test_host_time_and_padding_are_added_on_request(decode: Roofline) -> None:
    found = roofline("llama-3.1-8b", "h100-sxm", batch=33, context=4096, host="vllm-0.2")
    names = {row.operator for row in found.step.rows if row.bound == "overhead"}
    assert "host" in names
    padded = roofline("llama-3.1-8b", "h100-sxm", batch=33, context=4096, host="vllm-0.19")
    plain = roofline("llama-3.1-8b", "h100-sxm", batch=33, context=4096)
    assert rows_of(padded)["qkv"].flops == rows_of(plain)["qkv"].flops * 40 / 33, "to the captured size of 40"
    with pytest.raises(UnknownNameError, match="host profile"):
        roofline("llama-3.1-8b", "h100-sxm", host="vlm")
