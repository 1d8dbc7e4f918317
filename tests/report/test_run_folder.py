"""A run's folder is read back, and leads to no file elsewhere where that is not allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from simserve.errors import InputError
from simserve.report.run_folder import RunFolder
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return simulate(load_scenario("quickstart", ["workload.trace.limit=3"])).write(
        tmp_path / "runs" / "three"
    )


def test_a_folder_that_may_be_read(folder: Path) -> None:
    run = RunFolder.read(folder, allow_files=[folder.parent])
    assert run.summary["completed"] == len(run.requests["request_id"]) == 3


@pytest.mark.parametrize("name", ["scenario.yaml", "requests.parquet"])
def test_a_link_that_leads_out_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / name
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    assert RunFolder.read(folder).scenario
    with pytest.raises(InputError, match=rf"{name}: is outside of the folders that may be read"):
        RunFolder.read(folder, allow_files=[folder.parent])


def test_a_folder_elsewhere_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="outside"):
        RunFolder.read(folder, allow_files=[tmp_path / "empty"])
