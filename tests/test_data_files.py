"""The locator of the project's data folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from simserve.data_files import KINDS, data_folder, find_file
from simserve.errors import InputError


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_folder(kind: str) -> None:
    assert data_folder(kind).is_dir()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="no folder 'recipes'"):
        data_folder("recipes")


def test_files_are_sought_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside, working = tmp_path / "beside", tmp_path / "working"
    for folder in (beside, working):
        (folder / "models").mkdir(parents=True)
    monkeypatch.chdir(working)
    scenario = beside / "scenario.yaml"
    wanted = "models/llama-3.1-8b.json"
    assert find_file(wanted, scenario) == data_folder("models") / "llama-3.1-8b.json"
    (working / wanted).write_text("{}")
    assert find_file(wanted, scenario) == working / wanted
    (beside / wanted).write_text("{}")
    assert find_file(wanted, scenario) == find_file(wanted, beside) == beside / wanted
    assert find_file(beside / wanted) == beside / wanted


def test_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sought in the working directory"):
        find_file("no-such-file.csv")
    with pytest.raises(InputError, match="file not found"):
        find_file(tmp_path / "nothing.csv")
