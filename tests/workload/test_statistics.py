"""Figures of the public traces agree with those that their collection states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simserve.workload.statistics import LengthStatistics, describe_trace
from simserve.workload.trace import read_trace
from simserve.workload.workload import Workload

# Trace: rows, duration s, mean and peak per minute, CV, var/mean per second, input and output
# mean/p50/p95/p99/max, ideal prefix hit; None where the table has none. From the README beside the traces.
TABLE: dict[str, tuple[object, ...]] = {
    "azure/AzureLLMInferenceTrace_code.csv.gz": (
        *(8819, 3436, 154.0, 632, 13.15, 13.18),
        *((2048, 1469, 7303, 7436, 7437), (28, 13, 90, 251, 1899), None),
    ),
    "azure/AzureLLMInferenceTrace_conv.csv.gz": (
        *(19366, 3502, 331.8, 507, 1.09, 1.39),
        *((1155, 1020, 4083, 4142, 14050), (211, 129, 451, 601, 1000), None),
    ),
    "mooncake/conversation_trace.jsonl.gz": (
        *(12031, 3537, 204.1, 247, 3.03, 7.89),
        *((12035, 6909, 39550, 85400, 126195), (343, 350, 698, 1119, 2000), 0.373),
    ),
    "mooncake/synthetic_trace.jsonl.gz": (
        *(3993, 1022, 234.4, 273, 1.01, 1.09),
        *((15325, 11587, 48905, 66456, 191378), (149, 69, 519, 768, 893), 0.650),
    ),
    "vidur/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv.gz": (
        *(28257, None, None, None, None, None),
        *((2588, 2730, 3813, 3933, 4054), (291, 167, 736, 3271, 4056), None),
    ),
    "sarathi/sharegpt_8k_filtered_stats_llama2_tokenizer.csv.gz": (
        *(30731, None, None, None, None, None),
        *((2340, 1730, 6563, 7434, 8141), (439, 415, 920, 998, 1024), None),
    ),
    "llmservingsim/sharegpt-llama-3.1-8b-300-sps10.blk16.jsonl.gz": (
        *(300, 29.1, 617.8, 300, 0.94, 0.91),
        *((857, 732, 1749, 2765, 3998), (653, 632, 773, 784, 1021), 0.076),
    ),
    "llmservingsim/sharegpt-qwen3-30b-a3b-300-sps10.blk16.jsonl.gz": (
        *(300, 29.1, 617.8, 300, 0.94, 0.91),
        *((862, 728, 1814, 2768, 4570), (665, 638, 814, 1001, 1224), 0.079),
    ),
    "llmservingsim/sharegpt_pulse_req50_n6_delay15_pc.blk16.jsonl.gz": (
        *(300, 104, 173.4, 162, 5.51, 7.40),
        *((275, 93, 1068, 1607, 1807), (251, 236, 626, 761, 771), 0.257),
    ),
    "llmservingsim/workload_me2_01_mixed.jsonl.gz": (
        *(608, 60.9, 599.0, 601, 0.99, 0.87),
        *((9218, 2910, 26412, 28447, 31383), (3021, 874, 13045, 15039, 15890), None),
    ),
    "agentic/lmcache_miniswe.blk16.jsonl.gz": (
        *(402, 552, 43.7, 52, 0.67, None),
        *((6169, 3890, 25152, 39429, 46594), (110, 95, 224, 291, 348), 0.934),
    ),
    "agentic/lmcache_magagent.blk16.jsonl.gz": (
        *(746, 6449, 6.9, 27, 1.69, None),
        *((1992, 1044, 9813, 10265, 10807), (586, 332, 845, 10000, 10000), 0.839),
    ),
    "agentic/lmcache_taubench.blk16.jsonl.gz": (
        *(471, 181, 156.2, 166, 0.66, None),
        *((165, 102, 528, 772, 1200), (22, 0, 87, 195, 413), 0.818),
    ),
}
SESSIONS = {"miniswe": 20, "magagent": 25, "taubench": 24}
ZEROS = {"magagent": 53, "taubench": 283}


@pytest.mark.parametrize("name", TABLE)
def test_statistics_agree_with_the_table(data_dir: Path, name: str) -> None:
    rows, duration, mean, peak, cv, dispersion, inputs, outputs, hit = TABLE[name]
    found = describe_trace(read_trace(data_dir / "traces" / name))
    assert found.requests == rows
    assert found.peak_per_min == peak
    for value, stated, rounding in (
        (found.duration_s, duration, 0.5 if isinstance(duration, int) else 0.05),
        (found.mean_per_min, mean, 0.05),
        (found.cv, cv, 0.005),
        (found.ideal_prefix_hit, hit, 0.0005),
    ):
        _agree(value, stated, rounding)
    if dispersion is not None:  # the table leaves it out for the agent traces
        _agree(found.dispersion_1s, dispersion, 0.005)
    _lengths_agree(found.prompt_tokens, inputs)
    _lengths_agree(found.output_tokens, outputs)


def _agree(value: object, stated: object, rounding: float) -> None:
    if stated is None:
        assert value is None
    else:
        assert value == pytest.approx(stated, abs=rounding * 1.001)


def _lengths_agree(found: LengthStatistics, stated: object) -> None:
    values = (found.mean, found.p50, found.p95, found.p99, found.max)
    assert values == pytest.approx(stated, abs=0.501)


@pytest.mark.parametrize("name", SESSIONS)
def test_agent_sessions_and_zero_lengths(data_dir: Path, name: str) -> None:
    load = read_trace(data_dir / "traces" / "agentic" / f"lmcache_{name}.blk16.jsonl.gz")
    assert describe_trace(load).sessions == SESSIONS[name]
    assert load.zero_lengths == ZEROS.get(name, 0)
    first_turns = list(load.requests())
    assert len(first_turns) == SESSIONS[name]
    assert min(request.output_tokens for request in first_turns) >= 1


def test_statistics_of_a_workload_computed_by_hand() -> None:
    arrivals = np.array([0, 10, 30, 60], dtype=np.int64) * 1_000_000_000
    found = describe_trace(Workload("four", arrivals, np.array([1, 2, 3, 4]), np.array([0, 1, 1, 1])))
    assert (found.duration_s, found.mean_per_min, found.peak_per_min) == (60, 4, 3)
    assert found.cv == pytest.approx(np.sqrt(200 / 3) / 20)
    assert found.dispersion_1s == pytest.approx(1 - 4 / 61)
    assert (found.prompt_tokens.mean, found.prompt_tokens.p50, found.prompt_tokens.max) == (2.5, 2.5, 4)
    assert (found.zero_lengths, found.ideal_prefix_hit) == (1, None)


def test_a_single_request_has_no_rates() -> None:
    found = describe_trace(Workload("one", np.array([5]), np.array([1]), np.array([1])))
    assert (found.duration_s, found.cv, found.dispersion_1s) == (None, None, None)
