"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A test run must not depend on luck, nor on what else the machine does.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

ROOT = Path(__file__).resolve().parent.parent


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
