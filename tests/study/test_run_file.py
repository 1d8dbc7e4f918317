"""run.yaml: every documented key and value is read; what is wrong is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from simserve.errors import InputError
from simserve.study.run_file import RunFacts, read_run_file
from tests.study.conftest import FACTS, WriteRun

ROW = [(0.0, 10, 2, "", 0.1, 0.2)]


def test_all_keys_are_known() -> None:
    assert set(FACTS) == set(RunFacts.model_fields)


def test_what_the_run_says(write_run: WriteRun) -> None:
    facts = read_run_file(write_run(ROW) / "run.yaml").facts
    assert (facts.engine_version, facts.max_num_seqs, facts.num_gpu_blocks) == ("0.19", 8, 1000)
    assert facts.async_scheduling is False
    assert facts.max_model_len is None


@pytest.mark.parametrize(
    ("key", "values"),
    {
        "engine_version": ("0.15.1", "0.19.0", "0.23.0"),
        "hardware_id": ("h100-sxm", "rtx-pro-6000-server", "rtx-4090"),
        "model": (
            "meta-llama/Llama-2-7b-hf",
            "meta-llama/Llama-2-70b-hf",
            "codellama/CodeLlama-34b-Instruct-hf",
            "mistralai/Mixtral-8x7B-v0.1",
            "Qwen/Qwen3-14B",
            "Qwen/Qwen3-32B",
            "Qwen/Qwen3-30B-A3B-Instruct-2507",
            "meta-llama/Llama-3.1-8B",
        ),
        "enable_expert_parallel": ("true", "false"),
        "dtype": ("bfloat16", "float16", "null"),
        "num_gpu_blocks": ("18038", "null"),
        "gpu_memory_utilization": ("0.9", "null"),
        "cpu_offload": ("true", "false", "null"),
        "async_scheduling": ("true", "false", "null"),
        "client_max_concurrency": ("256", "null"),
        "latency_from": ("sent", "queued"),
        "prefix_file": ("prefix.jsonl.gz", "null"),
        "output_lengths": ("measured", "fixed"),
    }.items(),
)
def test_documented_values(write_run: WriteRun, key: str, values: tuple[str, ...]) -> None:
    for value in values:
        read_run_file(write_run(ROW, **{key: value}) / "run.yaml")


def test_parallel_runs(write_run: WriteRun) -> None:
    folder = write_run(ROW, tensor_parallel_size="2", data_parallel_size="2", gpus="4")
    facts = read_run_file(folder / "run.yaml").facts
    assert (facts.tensor_parallel_size, facts.data_parallel_size) == (2, 2)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"max_num_seq": "4"}, "27:1: unknown key 'max_num_seq'; did you mean 'max_num_seqs'?"),
        (
            {"latency_from": "queue"},
            "23:15: latency_from: expected 'sent' or 'queued', got 'queue'; did you mean",
        ),
        ({"engine": "vlm"}, "2:9: engine: expected 'vllm', got 'vlm'"),
        (
            {"hardware_id": "h100-sxn"},
            "4:14: hardware_id: unknown hardware 'h100-sxn'; did you mean 'h100-sxm'?",
        ),
        (
            {"model": "Qwen/Qwen3-14"},
            "7:8: model: unknown model 'Qwen/Qwen3-14'; did you mean 'Qwen/Qwen3-14B'",
        ),
        ({"max_num_seqs": "many"}, "11:15: max_num_seqs: expected a whole number, got 'many'"),
        ({"gpus": "3"}, "6:7: gpus: 3 accelerators; expected 1, tensor_parallel_size times"),
        ({"prefix_file": "../a.gz"}, "prefix_file: expected the name of a file in the same folder"),
        ({"engine_version": "9.9"}, "engine_version: expected '0.15'"),
    ],
)
def test_mistakes_are_told_with_their_place(write_run: WriteRun, facts: dict[str, str], message: str) -> None:
    path = write_run(ROW, **facts) / "run.yaml"
    with pytest.raises(InputError) as caught:
        read_run_file(path)
    assert str(caught.value).startswith(f"{path}:")
    assert message in str(caught.value)


def test_what_is_no_run_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read: No such file"):
        read_run_file(tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_text("- a\n")
    with pytest.raises(
        InputError, match=r"run.yaml:1:1: expected a mapping of a run's facts, got a list of 1"
    ):
        read_run_file(tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is no UTF-8 text"):
        read_run_file(tmp_path / "run.yaml")


def test_the_runs_of_real_servers(data_dir: Path) -> None:
    paths = sorted((data_dir / "e2e").glob("*/run.yaml"))
    assert len(paths) == 9
    for path in paths:
        assert read_run_file(path).facts.requests
