"""The documentation is kept true: its links lead somewhere, and its examples run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

RunCli = Callable[..., CompletedProcess[str]]
Show = Callable[..., str]
Summarize = Callable[..., dict[str, Any]]

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


@pytest.fixture
def show(run_cli: RunCli) -> Show:
    """`show("list", "models", folder=...)`: what the command prints."""

    def run(*words: str, folder: Path) -> str:
        done = run_cli(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_tutorial_runs(tmp_path: Path, show: Show) -> None:
    (scenario,) = blocks("tutorial/first-run.md", "yaml")
    (tmp_path / "mine.yaml").write_text(scenario)
    show("run", "mine.yaml", "--out", "out/mine", folder=tmp_path)
    tables, python = blocks("tutorial/first-run.md", "python")
    assert "ttft_s" in run_python(tables, tmp_path)
    assert float(run_python(python, tmp_path)) > 0


def named(page: str) -> dict[str, str]:
    """Return the Python blocks of a page that say under which name to save them."""
    found = (re.match(r'"""Save as (\w+\.py)', block) for block in blocks(page, "python"))
    codes = (match.string for match in found if match)
    return {code.split()[2].rstrip('.";'): code for code in codes}


GUIDE = "guides/write-a-policy.md"


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    """A folder with all that the guide says to save."""
    for name, code in named(GUIDE).items():
        (tmp_path / name).write_text(code)
    (scenario,) = blocks(GUIDE, "yaml")
    (tmp_path / "patient.yaml").write_text(scenario)
    return tmp_path


@pytest.fixture
def summary_of(show: Show) -> Summarize:
    """`summary_of("mine.yaml", folder=...)`: the summary of a run."""

    def run(*words: str, folder: Path) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(show("run", *words, "--json", folder=folder))
        return result

    return run


def test_the_scheduler_of_the_guide_runs_and_jumps(guide: Path, summary_of: Summarize) -> None:
    slow = summary_of("patient.yaml", "--check", folder=guide)
    assert slow["completed"] == 200
    added = next(code for code in blocks(GUIDE, "python") if "Add to patient.py" in code)
    with (guide / "patient.py").open("a") as file:
        file.write(added)
    check = next(code for code in blocks(GUIDE, "python") if "check_jumps" in code)
    assert run_python(check, guide).strip() == "200"
    fast = summary_of("patient.yaml", "--set", "pools.0.engine.kind=patient:FastPatient", folder=guide)
    for summary, kind in ((slow, "patient:Patient"), (fast, "patient:FastPatient")):
        assert summary["pools"][0].pop("engine") == kind
    differing = {key for key in slow if slow[key] != fast[key]}
    assert not differing


def test_the_test_of_the_guide_passes(guide: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_patient.py"], cwd=guide, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_commands_of_the_guide_run(guide: Path, summary_of: Summarize) -> None:
    commands = [line for block in blocks(GUIDE, "sh") for line in block.splitlines()]
    figures = [summary_of(*shlex.split(command)[3:], folder=guide) for command in commands]
    assert len(figures) == 5
    assert all(each["completed"] > 0 and each["unfinished"] == 0 for each in figures)


def test_the_order_of_the_guide_serves_the_cheapest_first(guide: Path, summary_of: Summarize) -> None:
    """With an unlimited queue, and more requests than can be served at once."""
    load = (
        "patient.yaml",
        "--set",
        "workload.arrivals=200",
        "--set",
        "workload.output_tokens={min: 1, max: 300}",
    )
    seats = "max_num_seqs: 8, max_model_len: 4096"
    waits = []
    for order in ("fcfs", "cheapest:CheapestFirst"):
        engine = f"pools.0.engine={{kind: sarathi, order: {order!r}, options: {{}}, {seats}}}"
        waits.append(summary_of(*load, "--set", engine, folder=guide)["mean_ttft_ms"])
    assert waits[1] < 0.9 * waits[0]


def test_the_router_of_the_guide_routes(guide: Path, show: Show) -> None:
    override = "router.policy=lanes:LongPromptLane"
    show("run", "scenarios/quickstart.yaml", "--set", override, "--out", "out", "-q", folder=guide)
    import pyarrow.parquet as pq

    rows = pq.read_table(guide / "out" / "requests.parquet").to_pylist()
    assert {row["instance"] for row in rows} == {0, 1}
    assert all((row["instance"] == 1) == (row["prompt_tokens"] >= 1500) for row in rows)


def test_the_variant_of_the_guide_serves_short_prompts_first(guide: Path, summary_of: Summarize) -> None:
    medians = []
    for kind in ("vllm", "shortest:ShortestPromptFirst"):
        options = f"{{kind: '{kind}', scheduling_policy: priority}}"
        words = ("scenarios/overload.yaml", "--set", f"pools.0.engine={options}")
        medians.append(summary_of(*words, folder=guide)["median_ttft_ms"])
    assert medians[1] < medians[0] / 2


def test_the_rooflines_of_the_guide_are_drawn(tmp_path: Path, show: Show) -> None:
    commands = [line for block in blocks("guides/roofline.md", "sh") for line in block.splitlines()]
    outputs = [show(*command.split()[1:], folder=tmp_path) for command in commands]
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
