"""A run is written whole or not at all, and the same run is the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from simserve.errors import InputError
from simserve.metrics import writer
from simserve.metrics.record import RequestLog, StepLog
from simserve.metrics.result import Result
from simserve.metrics.run_info import measure_run

MakeRun = Callable[..., tuple[RequestLog, list[StepLog]]]
FILES = {"summary.json", "run.json", "scenario.yaml", *writer.TABLES}


def make_result(make_run: MakeRun, seed: int) -> Result:
    record, logs = make_run(seed)
    return Result(
        requests=record, steps=logs, seed=seed, scenario_text=lambda: f"seed: {seed}\n", info=measure_run(0.0)
    )


def test_all_files_and_the_same_bytes_again(tmp_path: Path, make_run: MakeRun) -> None:
    for name in ("one", "two"):
        make_result(make_run, 4).write(tmp_path / name)
    assert {path.name for path in (tmp_path / "one").iterdir()} == FILES
    for name in FILES - {"run.json"}:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert (tmp_path / "one" / "scenario.yaml").read_text() == "seed: 4\n"
    run = json.loads((tmp_path / "one" / "run.json").read_text())
    assert run["cpu_s"] > 0
    assert run["peak_memory_bytes"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"], "nothing is left beside them"


def test_tables_are_read_back(tmp_path: Path, make_run: MakeRun) -> None:
    import pyarrow.parquet as pq

    result = make_result(make_run, 2)
    result.write(tmp_path / "out")
    expected = result.requests_table()
    assert pq.read_table(tmp_path / "out" / "requests.parquet").equals(expected)


def test_a_run_replaces_a_run_and_keeps_other_files(tmp_path: Path, make_run: MakeRun) -> None:
    out = tmp_path / "out"
    make_result(make_run, 1).write(out)
    (out / "notes.txt").write_text("mine")
    make_result(make_run, 2).write(out)
    assert writer.read_summary(out)["seed"] == 2
    assert (out / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_taken(tmp_path: Path, make_run: MakeRun) -> None:
    (tmp_path / "out").mkdir()
    make_result(make_run, 1).write(tmp_path / "out")
    assert writer.holds_run(tmp_path / "out")


def test_a_foreign_folder_or_file_is_refused(tmp_path: Path, make_run: MakeRun) -> None:
    (tmp_path / "summary.json").write_text('{"of": "something else"}')
    with pytest.raises(InputError, match="is not empty and holds no run"):
        make_result(make_run, 1).write(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        writer.check_output(tmp_path / "summary.json")
    assert (tmp_path / "summary.json").read_text() == '{"of": "something else"}'


def test_a_write_that_dies_leaves_the_old_run(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    make_result(make_run, 1).write(out)
    broken = make_result(make_run, 2)
    monkeypatch.setattr(broken, "spans_table", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        broken.write(out)
    assert writer.read_summary(out)["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_no_place_to_write_is_bad_input(tmp_path: Path, make_run: MakeRun) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        make_result(make_run, 1).write(tmp_path / "file" / "out")
