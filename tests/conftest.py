"""Fixtures shared by the whole suite."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

import pytest
from hypothesis import settings

# A test run must not depend on luck, nor on what else the machine does.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_finish() -> None:
    """Look for cycles as rarely as the command line does, and never in the tests: a fifth less time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of measured data and golden logs; the test skips with the reason where it is absent."""
    folder = Path(os.environ.get("SIMSERVE_DATA", ROOT.parent / "shared" / "data"))
    if folder.is_dir():
        return folder
    reason = f"no measured data at {folder}; set SIMSERVE_DATA"
    if os.environ.get("SIMSERVE_REQUIRE_DATA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


RunCli = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="session")
def run_cli() -> RunCli:
    """`run_cli("run", "mine.yaml", cwd=folder)`: what a process of its own would print, without one.

    A new interpreter and its imports take longer than most commands. What is special to a process (signals,
    a terminal, start-up) is tested with real ones. As there, the folder is on the path for policies.
    """
    from simserve.cli.entry import run_app

    def run(*words: str, cwd: Path | None = None) -> CompletedProcess[str]:
        folder = (cwd or Path.cwd()).resolve()
        before = set(sys.modules)
        importlib.invalidate_caches()
        with (
            chdir(folder),
            patch.object(sys, "path", [str(folder), *sys.path]),
            redirect_stdout(StringIO()) as out,
            redirect_stderr(StringIO()) as err,
        ):
            status = run_app([*words])
        for name in set(sys.modules) - before if cwd is not None else ():
            if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(folder):
                del sys.modules[name]  # another test's folder may have one of the same name
        return CompletedProcess(["simserve", *words], status, out.getvalue(), err.getvalue())

    return run
