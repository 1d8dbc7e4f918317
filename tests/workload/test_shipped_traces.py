"""The traces that ship with the project are what their recipes make, and look as their page says."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from simserve.data_files import data_folder
from simserve.scenario.workload_build import build_workload
from simserve.scenario.workload_file import load_workload_file
from simserve.workload.rows import trace_name
from simserve.workload.statistics import describe_trace
from simserve.workload.trace import read_trace
from simserve.workload.writing import write_trace

FOLDER = data_folder("traces")
TRACES = sorted(FOLDER.glob("*.gz"))


def test_there_is_one_of_each_shape() -> None:
    assert {trace_name(path) for path in TRACES} == {"chat", "code", "system-prompt", "multi-turn", "agent"}


@pytest.mark.parametrize("path", TRACES, ids=trace_name)
def test_a_trace_is_made_by_its_recipe(path: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    recipe = load_workload_file(FOLDER / f"{trace_name(path)}.yaml", {})
    load = build_workload(recipe.workload, seed=recipe.seed, find_file=Path)
    write_trace(replace(load, name=trace_name(path)), tmp_path / path.name)
    # The contents: compressed bytes may differ between versions of zlib.
    assert gzip.decompress((tmp_path / path.name).read_bytes()) == gzip.decompress(path.read_bytes())


@pytest.mark.parametrize("path", TRACES, ids=trace_name)
def test_a_trace_is_small_and_looks_as_its_page_says(path: Path) -> None:
    assert path.stat().st_size < 200_000
    found = describe_trace(read_trace(path))
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{re.escape(path.name)}` \|(.*)\|$", page, re.MULTILINE)
    assert row is not None, f"traces/README.md has no row for {path.name}"
    cells = [cell.strip() for cell in row[1].split("|")]
    hit = "—" if found.ideal_prefix_hit is None else f"{found.ideal_prefix_hit:.3f}"
    duration, cv = found.duration_s or 0, found.cv or 0
    prompt, output = found.prompt_tokens, found.output_tokens
    assert cells[1:] == [
        str(found.requests),
        str(found.sessions or "—"),
        f"{duration:.0f}",
        f"{cv:.2f}",
        f"{prompt.mean:.0f} / {prompt.p50:.0f} / {prompt.p95:.0f}",
        f"{output.mean:.0f} / {output.p50:.0f} / {output.p95:.0f}",
        hit,
    ]


def test_chat_looks_like_the_azure_conversation_trace(data_dir: Path) -> None:
    real = describe_trace(read_trace(data_dir / "traces/azure/AzureLLMInferenceTrace_conv.csv.gz"))
    made = describe_trace(read_trace(FOLDER / "chat.csv.gz"))
    for part in ("prompt_tokens", "output_tokens"):
        theirs, ours = getattr(real, part), getattr(made, part)
        assert ours.mean == pytest.approx(theirs.mean, rel=0.1)
        assert ours.p50 == pytest.approx(theirs.p50, rel=0.1)
    assert made.cv == pytest.approx(real.cv, rel=0.1)
