"""The compiled package writes the same bytes as plain Python; skipped where it is not built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from builds import (
    CHECKS,
    COMPILED,
    PLAIN,
    ROOT,
    Check,
    compiled_is_current,
    differing_files,
    environment_of,
    files_of,
)


@pytest.fixture(scope="module")
def _compiled() -> None:
    if not compiled_is_current():
        pytest.skip("the compiled package is not there, or older than the sources; run `make compile`")


@pytest.mark.usefixtures("_compiled")
def test_the_hot_modules_are_the_compiled_ones() -> None:
    code = "import simserve.engine.instance as module; print(module.__file__)"
    found = {}
    for package in (PLAIN, COMPILED):
        command = [sys.executable, "-P", "-c", code]
        done = subprocess.run(
            command, env=environment_of(package), capture_output=True, text=True, check=True
        )
        found[package] = done.stdout.strip()
    assert found[PLAIN] == str(PLAIN / "simserve" / "engine" / "instance.py")
    assert found[COMPILED].startswith(str(COMPILED / "simserve" / "engine" / "instance."))
    assert not found[COMPILED].endswith(".py")


@pytest.mark.usefixtures("_compiled")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_both_forms_write_the_same_bytes(check: Check) -> None:
    plain = files_of(check, PLAIN)
    assert {"summary.json", "requests.parquet", "steps.parquet"} <= plain.keys()
    summary = json.loads(plain["summary.json"])
    assert summary["completed"] > 0
    assert (summary["preemptions"] > 0) == check.preempts
    assert differing_files(plain, files_of(check, COMPILED)) == []


@pytest.mark.usefixtures("_compiled")
def test_the_compiled_scheduler_decides_as_the_real_one(data_dir: Path) -> None:
    code = "from simserve.cli.entry import main; main()"
    command = [
        sys.executable,
        "-P",
        "-c",
        code,
        "conformance",
        "vllm",
        str(data_dir / "golden" / "vllm"),
        "--json",
    ]
    done = subprocess.run(command, env=environment_of(COMPILED), capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert report["passed"]["L3"] == report["scenarios"] > 0


def test_a_difference_is_found() -> None:
    plain = {"summary.json": b"1", "steps.parquet": b"2"}
    assert differing_files(plain, dict(plain)) == []
    assert differing_files(plain, {"summary.json": b"0"}) == ["steps.parquet", "summary.json"]


def run_tool(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "compile.py"), *words]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_without_a_compiler_plain_python_is_used(tmp_path: Path) -> None:
    out = tmp_path / "compiled"
    done = run_tool("--out", str(out), CC="no-such-compiler -c")
    assert done.returncode == 0
    assert done.stdout == ("not compiled, plain Python is used: there is no C compiler (no-such-compiler)\n")
    assert not out.exists()
    assert run_tool("--out", str(out), "--check").returncode == 1


def test_nothing_else_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    run_tool("--out", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
