"""docs/reference/errors.md shows what real runs say about bad inputs; SIMSERVE_WRITE_DOCS=1 writes it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess

import pytest

RunCli = Callable[..., CompletedProcess[str]]

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "errors.md"
HEAD = """\
# Errors

Bad input ends a command with exit status 2 and one line for each thing that is wrong, on standard error:
`file:line:column: what is wrong, what was expected, the nearest valid name`. A run that fails, or a check
that does not hold, ends with 1. This page is made by the tests from real runs.
"""
GOOD = """\
model: llama-3.1-8b
workload:
  arrivals: 10
  prompt_tokens: 100
  output_tokens: 10
  requests: 20
pools: {hardware: h100-sxm}
"""
TRACE = "model: llama-3.1-8b\nworkload: {trace: load.csv}\npools: h100-sxm\n"
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


@dataclass(frozen=True, eq=False)
class BadInput:
    """A bad input and what its error must name.

    Attributes:
        title: Heading on the page.
        files: What lies in the folder.
        names: Texts that the message must contain.
        words: The command line after `simserve`.
    """

    title: str
    files: dict[str, str]
    names: tuple[str, ...]
    words: tuple[str, ...] = ("run", "bad.yaml")
    shown: str = field(default="bad.yaml")


BAD_INPUTS = (
    BadInput(
        "An unknown key",
        {"bad.yaml": GOOD.replace("requests:", "request:")},
        ("bad.yaml:6:3", "request", "'requests'"),
    ),
    BadInput(
        "A wrong type",
        {"bad.yaml": GOOD.replace("requests: 20", "requests: many")},
        ("bad.yaml:6:", "many"),
    ),
    BadInput(
        "A negative rate",
        {"bad.yaml": GOOD.replace("arrivals: 10", "arrivals: -10")},
        ("bad.yaml:3:", "-10"),
    ),
    BadInput("A missing file", {}, ("missing.yaml",), ("run", "missing.yaml"), ""),
    BadInput(
        "A scenario that does not ship", {}, ("'quickstart'", "list scenarios"), ("run", "quickstrat"), ""
    ),
    BadInput(
        "A sweep in place of a scenario",
        {"bad.yaml": "base: quickstart\naxes:\n  - {key: pools.0.replicas, values: [1, 2]}\n"},
        ("bad.yaml", "simserve sweep bad.yaml"),
    ),
    BadInput(
        "The folder of a run in place of a scenario",
        {"out/four/scenario.yaml": GOOD},
        ("out/four", "out/four/scenario.yaml"),
        ("run", "out/four"),
        "",
    ),
    BadInput("A missing trace", {"bad.yaml": TRACE}, ("load.csv",)),
    BadInput(
        "An unknown model",
        {"bad.yaml": GOOD.replace("llama-3.1-8b", "llama-3.1-8")},
        ("llama-3.1-8", "did you mean"),
    ),
    BadInput(
        "A model that nothing shipped is like",
        {"bad.yaml": GOOD.replace("llama-3.1-8b", "mycompany/Foo-9B")},
        ("mycompany/Foo-9B", "simserve list models", "config.json"),
    ),
    BadInput(
        "A policy that Python does not find",
        {"bad.yaml": GOOD.replace("h100-sxm}", "h100-sxm, engine: {kind: 'patient:Patient'}}")},
        ("bad.yaml:7:", "PYTHONPATH="),
    ),
    BadInput(
        "A broken row of a trace",
        {
            "bad.yaml": TRACE,
            "load.csv": HEADER + "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,x9\n",
        },
        ("load.csv:3", "x9"),
        shown="load.csv",
    ),
    BadInput("An empty trace", {"bad.yaml": TRACE, "load.csv": HEADER}, ("load.csv",), shown="load.csv"),
    BadInput(
        "A model larger than the GPU",
        {"bad.yaml": GOOD.replace("llama-3.1-8b", "llama-3.1-70b").replace("h100-sxm", "rtx-4090")},
        ("llama-3.1-70b", "rtx-4090"),
    ),
    BadInput(
        "YAML that would run code",
        {"bad.yaml": GOOD.replace("llama-3.1-8b", "!!python/object/apply:os.system [id]")},
        ("bad.yaml:1:",),
    ),
    BadInput(
        "YAML with anchors",
        {"bad.yaml": "a: &a [x, x]\nb: &b [*a, *a]\n" + GOOD},
        ("bad.yaml:1:",),
    ),
    BadInput(
        "A key at the wrong place",
        {"bad.yaml": GOOD.replace("h100-sxm}", "h100-sxm, max_num_seqs: 64}")},
        ("bad.yaml:7:", "'pools.0.engine.max_num_seqs'"),
    ),
    BadInput(
        "A name that YAML reads as a number",
        {"bad.yaml": GOOD},
        ("4090", "'rtx-4090'"),
        ("run", "bad.yaml", "--set", "pools.0.hardware=4090"),
        "",
    ),
    BadInput(
        "A misspelt option",
        {"bad.yaml": GOOD},
        ("'--ot'", "'--out'"),
        ("run", "bad.yaml", "--ot", "build/mine"),
        "",
    ),
    BadInput(
        "An override that names no key",
        {"bad.yaml": GOOD},
        ("pools.0.replica", "replicas"),
        ("run", "bad.yaml", "--set", "pools.0.replica=2"),
    ),
    BadInput(
        "An output folder that holds something else",
        {"bad.yaml": GOOD, "thesis/chapter1.tex": "\\section{}\n"},
        ("thesis", "holds no run"),
        ("run", "bad.yaml", "--out", "thesis"),
        "",
    ),
)


@pytest.fixture(scope="module")
def say(run_cli: RunCli, tmp_path_factory: pytest.TempPathFactory) -> Callable[[BadInput], str]:
    """What simserve says on standard error, asked once; it must be no traceback and end with status 2."""

    @cache
    def say_once(case: BadInput) -> str:
        folder = tmp_path_factory.mktemp("bad")
        for name, text in case.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        done = run_cli(*case.words, cwd=folder)
        assert "Traceback" not in done.stderr, done.stderr
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        return done.stderr.replace(f"{folder}/", "")

    return say_once


@pytest.mark.parametrize("case", BAD_INPUTS, ids=lambda case: case.title)
def test_the_error_names_what_is_wrong(case: BadInput, say: Callable[[BadInput], str]) -> None:
    said = say(case)
    assert all(name in said for name in case.names), said
    assert len(said.splitlines()) <= 3, said


LONG_PROMPT = GOOD.replace("prompt_tokens: 100", "prompt_tokens: 5000").replace(
    "h100-sxm}", "h100-sxm, engine: {max_model_len: 4096}}"
)


@pytest.fixture
def long_prompt(run_cli: RunCli, tmp_path: Path) -> str:
    """The first lines of a run in which no prompt fits; each request fails with its reason."""
    (tmp_path / "long.yaml").write_text(LONG_PROMPT)
    done = run_cli("run", "long.yaml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines(keepends=True)
    return "".join(line for line in lines if line.lstrip().startswith(("requests ", "failed ")))


def test_a_prompt_above_the_model_length_fails_with_its_reason(long_prompt: str) -> None:
    assert "0 completed, 20 failed, 0 unfinished" in long_prompt
    assert "max_model_len 4096" in long_prompt


def test_the_page_is_current(say: Callable[[BadInput], str], long_prompt: str) -> None:
    parts = [HEAD]
    for case in BAD_INPUTS:
        shown = f"`{case.shown}`:\n```\n{case.files[case.shown]}```\n" if case.shown else ""
        command = f"$ simserve {' '.join(case.words)}\n"
        parts.append(f"## {case.title}\n{shown}```\n{command}{say(case)}```\n")
    parts.append(
        "## A prompt longer than max_model_len\n"
        "As at a real server, the request fails and the run goes on; the summary gives the reason.\n\n"
        f"`long.yaml`:\n```\n{LONG_PROMPT}```\n```\n$ simserve run long.yaml\n...\n{long_prompt}...\n```\n"
    )
    page = "\n".join(parts)
    if os.environ.get("SIMSERVE_WRITE_DOCS") == "1":
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, "write it anew with SIMSERVE_WRITE_DOCS=1"
