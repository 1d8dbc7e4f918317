"""measured.csv.gz: what is read, what is refused, and the workload that it makes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from simserve.errors import TraceError
from simserve.study.measured import MEASURED_FILE, read_measured
from simserve.study.run_workload import build_workload
from simserve.study.validate import read_run
from simserve.workload.client import Client
from simserve.workload.request import Segment
from tests.study.conftest import HEADER, WriteRun


def write_rows(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / MEASURED_FILE
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join([header, *rows]) + "\n")
    return path


def test_rows_are_sorted_by_due_time(tmp_path: Path) -> None:
    path = write_rows(tmp_path, "0,2.0,2.5,10,3,7,0.1,0.1,0.3", "1,1.0,1.0,20,1,,0.2,,0.2")
    measured = read_measured(path, queued=False)
    sides = measured.latencies
    assert sides.due_s.tolist() == [1.0, 2.0]
    assert sides.start_s.tolist() == [1.0, 2.5]
    assert measured.prompt_id.tolist() == [-1, 7]
    assert measured.row.tolist() == [1, 0]
    assert np.isnan(sides.tpot_s[0])
    assert sides.tpot_s[1] == pytest.approx(0.1)
    assert sides.end_s.tolist() == pytest.approx([1.2, 2.8])
    assert read_measured(path, queued=True).latencies.start_s.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,0,0,10,3,,x,0,1", ":2:13: ttft_s is 'x'; expected a number"),
        ("0,0,0,10,3,,2,0,1", ":2:17: e2el_s is '1'; expected at least ttft_s, 2"),
        ("0,0,0,0,3,,1,0,1", ":2:7: prompt_tokens is '0'; expected at least 1 token"),
        ("0,0,0,10,3,a,1,0,1", ":2:12: prompt_id is 'a'; expected an integer"),
        ("0,0,0", ":2: the row has 3 fields; expected 9"),
    ],
)
def test_broken_rows_are_refused(tmp_path: Path, row: str, message: str) -> None:
    path = write_rows(tmp_path, row)
    with pytest.raises(TraceError) as caught:
        read_measured(path, queued=False)
    assert f"{path}{message}" in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no such file"):
        read_measured(tmp_path / MEASURED_FILE, queued=False)
    with pytest.raises(TraceError, match="no requests were measured"):
        read_measured(write_rows(tmp_path), queued=False)
    with pytest.raises(TraceError, match="no column 'ttft_s'; did you mean 'tpot_s'"):
        read_measured(write_rows(tmp_path, header=HEADER.replace("ttft_s", "x")), queued=False)


def test_a_wrong_number_of_rows_is_refused(write_run: WriteRun) -> None:
    folder = write_run([(0.0, 10, 2, "", 0.1, 0.2)], requests="2")
    with pytest.raises(Exception, match=r"has 1 requests; expected 2, as run.yaml states"):
        read_run(folder)


def test_equal_ids_are_equal_prompts(write_run: WriteRun) -> None:
    rows = [(0.0, 40, 2, "5", 0.1, 0.2), (1.0, 30, 2, "5", 0.1, 0.2), (2.0, 9, 2, "6", 0.1, 0.2)]
    folder = write_run([*rows, (3.0, 50, 2, "", 0.1, 0.2)])
    _, measured = read_run(folder)
    load = build_workload(measured, folder / MEASURED_FILE, None, Client(4))
    first, second, third, fourth = load.requests()
    assert first.prompt[0].stream == second.prompt[0].stream != third.prompt[0].stream
    assert [first.prompt[0][1:], second.prompt[0][1:]] == [(0, 40), (0, 30)]
    assert (first.shared_tokens, second.shared_tokens, third.shared_tokens) == (40, 30, 0)
    assert fourth.prompt == ()
    assert {each.output_stream for each in (first, second, third, fourth)} == {0, 1, 2, 3}
    assert all(each.prompt[0].stream > 3 for each in (first, second, third))
    assert load.client.max_concurrency == 4


def test_block_hashes_make_segments(write_run: WriteRun) -> None:
    folder = write_run([(1.0, 40, 9, "", 0.1, 0.2), (0.0, 33, 2, "", 0.1, 0.2)], prefix_file="p.jsonl")
    hashes = [(40, [1, 2, 3]), (33, [1, 2])]
    lines = [json.dumps({"input_length": length, "hash_ids": ids}) for length, ids in hashes]
    (folder / "p.jsonl").write_text("\n".join(lines))
    _, measured = read_run(folder)
    load = build_workload(measured, folder / MEASURED_FILE, folder / "p.jsonl", Client())
    second, first = load.requests()  # the row of the file that is due first comes first
    assert second.prompt[0] == Segment(first.prompt[0].stream, 0, 32)
    assert first.prompt[0].length == 32
    assert second.shared_tokens == first.shared_tokens == 32
    assert sum(segment.length for segment in first.prompt) == 40


def test_a_prefix_file_of_another_run_is_refused(write_run: WriteRun) -> None:
    folder = write_run([(0.0, 40, 9, "", 0.1, 0.2)], prefix_file="p.jsonl")
    _, measured = read_run(folder)
    for text, message in (
        ('{"input_length": 39, "hash_ids": []}', ":1: input_length is 39; expected 40"),
        ("", "has 0 rows; expected one for each of 1 requests"),
    ):
        (folder / "p.jsonl").write_text(text)
        with pytest.raises(TraceError, match=message):
            build_workload(measured, folder / MEASURED_FILE, folder / "p.jsonl", Client())
    with pytest.raises(TraceError, match=r"no such file; run\.yaml names it as prefix_file"):
        build_workload(measured, folder / MEASURED_FILE, folder / "q.jsonl", Client())
