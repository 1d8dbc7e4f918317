"""Broken traces are refused with the file and the row, never with a traceback."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from simserve.errors import InputError, TraceError
from simserve.workload.trace import read_trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
MOONCAKE = {"timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [0, 1]}


def message_of(path: Path, text: str | bytes) -> str:
    """The error that a file with this text gives, without its folder."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            "2023-11-16 18:17:04,many,8",
            "a.csv:3:21: ContextTokens is 'many'; expected a whole number of tokens",
        ),
        (
            "2023-11-16 18:17:04,-3,8",
            "a.csv:3:21: ContextTokens is '-3'; expected a number of tokens, from 0 to 2^31",
        ),
        (
            "2023-11-16 18:17:04,1.5,8",
            "a.csv:3:21: ContextTokens is '1.5'; expected a whole number of tokens",
        ),
        (
            "2023-11-16 18:17:04,7,nan",
            "a.csv:3:23: GeneratedTokens is 'nan'; expected a whole number of tokens",
        ),
        (
            "2023-11-16 18:17:04,7,1e400",
            "a.csv:3:23: GeneratedTokens is '1e400'; expected a whole number of tokens",
        ),
        (
            "2023-13-16 18:17:04,7,8",
            "a.csv:3:1: TIMESTAMP is '2023-13-16 18:17:04'; expected a day of the calendar",
        ),
        (
            "yesterday,7,8",
            "a.csv:3:1: TIMESTAMP is 'yesterday'; expected a UTC time such as 2023-11-16 18:17:03.9799600",
        ),
        (
            "2023-11-16 18:17:04,7",
            "a.csv:3: the row has 2 fields; expected 3: TIMESTAMP,ContextTokens,GeneratedTokens",
        ),
    ],
)
def test_broken_csv_rows(tmp_path: Path, row: str, expected: str) -> None:
    assert message_of(tmp_path / "a.csv", AZURE + row + "\n") == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("{", "m.jsonl:2:2: broken JSON"),
        ("[1]", "m.jsonl:2:1: expected a JSON object"),
        (
            json.dumps(MOONCAKE | {"input_length": -1}),
            "m.jsonl:2: input_length is -1; expected an integer, at least 0",
        ),
        (
            json.dumps(MOONCAKE | {"output_length": "5"}),
            'm.jsonl:2: output_length is "5"; expected an integer',
        ),
        (
            json.dumps(MOONCAKE | {"timestamp": True}),
            "m.jsonl:2: timestamp is true; expected a finite number",
        ),
        (
            json.dumps(MOONCAKE | {"hash_ids": [1, "x"]}),
            'm.jsonl:2: hash_ids is [1, "x"]; expected a list of integers',
        ),
        (
            json.dumps(MOONCAKE | {"hash_ids": [1, 2, 3]}),
            "m.jsonl:2: hash_ids is [1, 2, 3]; expected at most one",
        ),
        (
            '{"timestamp": 0, "input_lenght": 3, "output_length": 1}',
            "m.jsonl:2: the row has no 'input_length'; did you mean",
        ),
        (
            '{"timestamp": 1e999, "input_length": 3, "output_length": 1, "hash_ids": []}',
            "m.jsonl:2: timestamp is Infinity",
        ),
    ],
)
def test_broken_json_rows(tmp_path: Path, row: str, expected: str) -> None:
    text = json.dumps(MOONCAKE) + "\n" + row + "\n"
    assert message_of(tmp_path / "m.jsonl", text).startswith(expected)


def test_files_that_are_no_traces(tmp_path: Path) -> None:
    assert "the trace is empty" in message_of(tmp_path / "a", "")
    assert "the trace is empty" in message_of(tmp_path / "a.gz", gzip.compress(b""))
    assert "a.csv:1: unknown trace format; expected one of azure" in message_of(
        tmp_path / "a.csv", "a,b\n1,2\n"
    )
    assert "the trace has no requests" in message_of(tmp_path / "a.csv", AZURE.split("\n")[0] + "\n")
    assert "no UTF-8 text" in message_of(tmp_path / "a.csv", AZURE.encode() + b"\xff\xfe,1,2\n" + b"x" * 9000)
    assert "a.csv:1: the header has no column 'GeneratedTokens'; did you mean 'GeneratedToken'" in message_of(
        tmp_path / "a.csv", AZURE.replace("GeneratedTokens", "GeneratedToken")
    )
    with pytest.raises(TraceError, match="no such file"):
        read_trace(tmp_path / "missing.csv")
    with pytest.raises(TraceError, match="no such file"):
        read_trace(tmp_path)


def test_a_cut_gzip_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    rows = "".join(f"2023-11-16 18:17:04.{i:07d},{i * 7919 % 5000},{i}\n" for i in range(20000))
    whole = gzip.compress((AZURE + rows).encode())
    message = message_of(path, whole[: len(whole) // 2])
    row = int(message.split(":")[1])
    assert 5_000 < row < 15_000
    assert "cut off or damaged" in message


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(0, 1, 5), (0, 0, 9)], "a.jsonl:2: turn is 0; expected the turns of session 0 in order"),
        ([(0, 0, 5), (0, 1, 3)], "a.jsonl:2: turn is 1; expected the turns of session 0 in order"),
    ],
)
def test_agent_turns_out_of_order(tmp_path: Path, rows: list[tuple[int, int, int]], expected: str) -> None:
    text = "".join(
        json.dumps(
            {"session": s, "turn": n, "t_us": t, "input_length": 1, "output_length": 1, "hash_ids": []}
        )
        + "\n"
        for s, n, t in rows
    )
    assert message_of(tmp_path / "a.jsonl", text).startswith(expected)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"errors": []}, "start_times; expected a list; save the result with --save-detailed"),
        ({"start_times": [1.0]}, "expected 1 entries, as many as start_times"),
        ({"start_times": [1.0, "x"]}, "found 'x'"),
        ({"start_times": [1.0, float("nan")]}, "found nan"),
    ],
)
def test_vllm_results_without_details(tmp_path: Path, fields: dict[str, object], expected: str) -> None:
    text = json.dumps({"input_lens": [1, 2], "output_lens": [1, 2], **fields})
    assert expected.rpartition("; ")[2] in message_of(tmp_path / "r.json", text)


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'mooncake'"):
        read_trace("x", "moncake")


def test_an_unknown_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"session": 0, "turn": 0, "t_us": 0, "input_length": 1, "output_length": 1}\n')
    with pytest.raises(InputError, match="expected recorded or completion"):
        read_trace(path, release="never")
