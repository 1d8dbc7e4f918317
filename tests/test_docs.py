"""The documentation is kept true: its links lead somewhere, and its examples run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# "), "a page starts with its title"
    missing = [target for target in LINK.findall(text) if not (page.parent / target).exists()]
    assert not missing


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a language on a page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def run_python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_cli(*words: str, folder: Path) -> str:
    return run_python(f"import sys; from simserve.cli import main; sys.argv[1:] = {words!r}; main()", folder)


def test_the_tutorial_runs(tmp_path: Path) -> None:
    (scenario,) = blocks("tutorial/first-run.md", "yaml")
    (tmp_path / "mine.yaml").write_text(scenario)
    run_cli("run", "mine.yaml", "--out", "out/mine", folder=tmp_path)
    tables, python = blocks("tutorial/first-run.md", "python")
    assert "ttft_s" in run_python(tables, tmp_path)
    assert float(run_python(python, tmp_path)) > 0


def test_the_policy_of_the_guide_routes(tmp_path: Path) -> None:
    policy, _ = blocks("guides/policies.md", "python")
    (tmp_path / "lanes.py").write_text(policy)
    override = "router.policy=lanes:LongPromptLane"
    run_cli("run", "scenarios/quickstart.yaml", "--set", override, "--out", "out", "-q", folder=tmp_path)
    import pyarrow.parquet as pq

    rows = pq.read_table(tmp_path / "out" / "requests.parquet").to_pylist()
    assert {row["instance"] for row in rows} == {0, 1}
    assert all((row["instance"] == 1) == (row["prompt_tokens"] >= 1500) for row in rows)


def test_the_engine_of_the_guide_serves_short_prompts_first(tmp_path: Path) -> None:
    _, engine = blocks("guides/policies.md", "python")
    (tmp_path / "shortest.py").write_text(engine)
    medians = []
    for kind in ("vllm", "shortest:ShortestPromptFirst"):
        options = f"{{kind: '{kind}', scheduling_policy: priority}}"
        words = ("run", "scenarios/overload.yaml", "--json", "--set", f"pools.0.engine={options}")
        medians.append(json.loads(run_cli(*words, folder=tmp_path))["median_ttft_ms"])
    assert medians[1] < medians[0] / 2


def test_the_rooflines_of_the_guide_are_drawn(tmp_path: Path) -> None:
    commands = [line for block in blocks("guides/roofline.md", "sh") for line in block.splitlines()]
    outputs = [run_cli(*command.split()[1:], folder=tmp_path) for command in commands]
    assert (tmp_path / "roofline.html").stat().st_size > 10_000
    shown = blocks("guides/roofline.md", "text")
    for text, output in zip(shown, (outputs[0], outputs[1], outputs[3]), strict=True):
        names = {line.split()[0] for line in text.splitlines() if line.strip()}
        assert names <= {line.split()[0] for line in output.splitlines() if line.strip()}
    (python,) = blocks("guides/roofline.md", "python")
    assert run_python(python, tmp_path).splitlines()[0].split()[1] in (
        "compute",
        "bandwidth",
        "communication",
    )
