"""Runs of a made-up server, written as those of real ones are, and the folder of a sweep."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.study.sweeps import BASE, SWEEP

FACTS = {
    "source": "made up",
    "engine": "vllm",
    "engine_version": "0.19.0",
    "hardware_id": "h100-sxm",
    "hardware_name": "NVIDIA H100 80GB HBM3",
    "gpus": "1",
    "model": "meta-llama/Llama-3.1-8B",
    "tensor_parallel_size": "1",
    "data_parallel_size": "1",
    "enable_expert_parallel": "false",
    "max_num_seqs": "8",
    "max_num_batched_tokens": "2048",
    "max_model_len": "null",
    "dtype": "bfloat16",
    "block_size": "16",
    "num_gpu_blocks": "1000",
    "gpu_memory_utilization": "null",
    "enable_prefix_caching": "true",
    "cpu_offload": "null",
    "async_scheduling": "false",
    "cuda_graphs": "true",
    "client_max_concurrency": "null",
    "latency_from": "sent",
    "prefix_file": "null",
    "output_lengths": "fixed",
    "requests": "null",
}
HEADER = "request_id,due_s,sent_s,prompt_tokens,output_tokens,prompt_id,ttft_s,tpot_s,e2el_s"
# due_s, prompt_tokens, output_tokens, prompt_id, ttft_s, e2el_s
MadeRow = tuple[float, int, int, str, float, float]
WriteRun = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Write a run's folder: its rows, and facts that differ from `FACTS`; returns the folder."""

    def write(rows: Sequence[MadeRow], name: str = "made-up", **facts: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        lines = [f"{key}: {value}" for key, value in {**FACTS, **facts}.items()]
        (folder / "run.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        table = [HEADER]
        for number, (due, prompt, output, prompt_id, ttft, e2el) in enumerate(rows):
            tpot = (e2el - ttft) / max(1, output - 1)
            table.append(f"{number},{due},{due},{prompt},{output},{prompt_id},{ttft},{tpot},{e2el}")
        with gzip.open(folder / "measured.csv.gz", "wt", encoding="utf-8") as file:
            file.write("\n".join(table) + "\n")
        return folder

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a sweep's file and its base."""
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return tmp_path
