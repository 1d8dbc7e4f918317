"""Every format: what a small file of it means, and that its format is recognised."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simserve.errors import InputError, TraceError
from simserve.workload.request import Request
from simserve.workload.trace import FORMATS, detect_format, read_trace

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file and returns its path."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


def jsonl(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def shapes(requests: list[Request]) -> list[tuple[int, int, int]]:
    return [(request.arrival_ns, request.prompt_tokens, request.output_tokens) for request in requests]


AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
    "2023-11-16 18:17:04.0319600,3180,8\n"
)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "without-a-suffix"])
def test_azure(write: Write, name: str) -> None:
    path = write(name, AZURE)
    assert detect_format(path) == "azure"
    assert shapes(list(read_trace(path).requests())) == [(0, 4808, 10), (52_000_000, 3180, 8)]


def test_azure_2024_times_with_an_offset_across_midnight(write: Write) -> None:
    rows = "2024-05-10 23:59:59.5+00:00,1,2\n2024-05-11 00:00:00.009930+00:00,3,4\n"
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows
    assert shapes(list(read_trace(write("a.csv", text)).requests())) == [(0, 1, 2), (509_930_000, 3, 4)]


def test_an_unsorted_file_is_sorted_and_ties_keep_their_order(write: Write) -> None:
    text = "arrival_s,prompt_tokens,output_tokens,tenant\n2,1,1,a\n1,2,1,b\n1,3,1,c\n"
    requests = list(read_trace(write("a.csv", text)).requests())
    assert [(r.id, r.prompt_tokens, r.tenant) for r in requests] == [(0, 2, "b"), (1, 3, "c"), (2, 1, "a")]


def test_mooncake_blocks_are_shared_segments(write: Write) -> None:
    path = write(
        "m.jsonl",
        jsonl(
            {"timestamp": 0, "input_length": 1300, "output_length": 5, "hash_ids": [0, 1, 2]},
            {"timestamp": 27, "input_length": 1100, "output_length": 0, "hash_ids": [0, 1, 3]},
        ),
    )
    assert detect_format(path) == "mooncake"
    first, second = read_trace(path).requests()
    assert second.arrival_ns == 27_000_000
    assert second.output_tokens == 1
    assert sum(part.length for part in first.prompt) == 1300
    assert first.prompt[0][:2] == second.prompt[0][:2]
    assert second.prompt[0].length == 1024
    assert first.shared_tokens == second.shared_tokens == 1024
    assert {part.stream for part in first.prompt[1:]}.isdisjoint(part.stream for part in second.prompt[1:])


def test_mooncake_ticks_are_spread_evenly(write: Write) -> None:
    rows = [
        {"timestamp": t, "input_length": 5, "output_length": 5, "hash_ids": [i]}
        for i, t in enumerate((0, 0, 0, 3000, 3000, 30000))
    ]
    load = read_trace(write("m.jsonl", jsonl(*rows)), spread_ticks=True)
    # The median distance of ticks is (3 s + 27 s) / 2; a tick ends at the next one at the latest.
    assert load.arrival_ns.tolist() == [0, 10**9, 2 * 10**9, 3 * 10**9, 105 * 10**8, 30 * 10**9]


def test_bailian_turns(write: Write) -> None:
    common = {"input_length": 20, "output_length": 3, "type": "text", "turn": 1}
    path = write(
        "b.jsonl",
        jsonl(
            {"chat_id": 1, "parent_chat_id": -1, "timestamp": 1.5, **common, "hash_ids": [5, 6]},
            {"chat_id": 9, "parent_chat_id": 1, "timestamp": 4.5, **common, "hash_ids": [5, 7]},
        ),
    )
    assert detect_format(path) == "bailian"
    recorded = list(read_trace(path).requests())
    assert [(r.arrival_ns, r.session, r.shared_tokens, r.tenant) for r in recorded] == [
        (1_500_000_000, "1", 16, "text"),
        (4_500_000_000, "1", 16, "text"),
    ]
    (first,) = read_trace(path, release="completion").requests()
    assert first.follow_ups[0].gap_ns == 3_000_000_000


def test_burstgpt(write: Write) -> None:
    path = write(
        "burst.csv",
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,7,2.5,ChatGPT,472,18,490,Conversation log\n45,,1,GPT-4,10,0,10,API log\n"
        "60,7,3,ChatGPT,500,20,520,Conversation log\n",
    )
    assert detect_format(path) == "burstgpt"
    load = read_trace(path)
    assert shapes(list(load.requests())) == [(5 * 10**9, 472, 18), (45 * 10**9, 10, 1), (60 * 10**9, 500, 20)]
    assert load.zero_lengths == 1
    assert [r.tenant for r in read_trace(path, model="GPT-4").requests()] == ["GPT-4"]
    first, _ = read_trace(path, release="completion").requests()
    assert first.follow_ups[0].gap_ns == 52_500_000_000


def test_lengths_only(write: Write) -> None:
    path = write(
        "v.csv",
        "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n3772,54,3826,69.8\n20.0,2.0,22,10\n",
    )
    assert detect_format(path) == "lengths"
    load = read_trace(path)
    assert not load.has_arrivals
    assert shapes(list(load.requests())) == [(0, 3772, 54), (0, 20, 2)]
    timed = write("t.csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,7,8\n")
    assert shapes(list(read_trace(timed).requests())) == [(500_000_000, 7, 8)]


def test_llmservingsim_flat_agentic_and_token_ids(write: Write) -> None:
    prompt = list(range(20))
    answer = list(range(100, 130))
    path = write(
        "l.jsonl",
        jsonl(
            {
                "input_toks": 20,
                "output_toks": 30,
                "arrival_time_ns": 10,
                "input_tok_ids": prompt,
                "output_tok_ids": answer,
            },
            {
                "input_toks": 60,
                "output_toks": 5,
                "arrival_time_ns": 20,
                "input_tok_ids": prompt + answer + list(range(10)),
            },
            {
                "session_id": "task",
                "arrival_time_ns": 30,
                "sub_requests": [
                    {"input_toks": 8, "output_toks": 4, "tool_duration_ns": 500},
                    {"input_toks": 9, "output_toks": 0, "tool_duration_ns": 0},
                ],
            },
        ),
    )
    assert detect_format(path) == "llmservingsim"
    first, second, task = read_trace(path).requests()
    # The second prompt holds the first's prompt and what it generates: 48 tokens are three full blocks.
    assert first.prompt == second.prompt[:2]
    assert [part.length for part in second.prompt] == [16, 4, 28, 12]
    assert second.prompt[2] == (first.output_stream, 0, 28)
    assert first.shared_tokens == second.shared_tokens == 48
    assert (task.session, task.follow_ups[0].gap_ns, task.follow_ups[0].output_tokens) == ("task", 500, 1)


def test_llmservingsim_compact(write: Write) -> None:
    path = write(
        "c.jsonl",
        jsonl(
            {
                "arrival_ns": 5,
                "input_length": 20,
                "output_length": 30,
                "n_output_ids": 30,
                "hash_ids": [0, 1, 2],
            },
            {
                "arrival_ns": 9,
                "input_length": 50,
                "output_length": 3,
                "n_output_ids": 3,
                "hash_ids": [0, 1, 2],
            },
        ),
    )
    assert detect_format(path) == "llmservingsim"
    first, second = read_trace(path).requests()
    assert [part.length for part in second.prompt] == [16, 4, 28, 2]
    assert second.prompt[2][:2] == (first.output_stream, 0)
    assert second.prompt[1] == first.prompt[1]


def test_agent_turns_follow_completion(write: Write) -> None:
    rows = [
        {"session": 0, "turn": 0, "t_us": 0, "input_length": 20, "output_length": 0, "hash_ids": [0]},
        {"session": 1, "turn": 0, "t_us": 7, "input_length": 9, "output_length": 1, "hash_ids": []},
        {
            "session": 0,
            "turn": 1,
            "t_us": 2_000_000,
            "input_length": 40,
            "output_length": 10,
            "hash_ids": [0, 1],
        },
    ]
    path = write("a.jsonl", jsonl(*rows))
    assert detect_format(path) == "agent"
    first, other = read_trace(path).requests()
    assert (other.arrival_ns, other.follow_ups) == (7000, ())
    (turn,) = first.follow_ups
    assert (turn.id, turn.gap_ns, turn.session, turn.shared_tokens) == (2, 2 * 10**9, "0", 16)
    (turn,) = next(
        iter(read_trace(path, subtract_base_s=0.5, subtract_per_token_s=1.0).requests())
    ).follow_ups
    assert turn.gap_ns == 1_500_000_000
    assert len(list(read_trace(path, release="recorded").requests())) == 3


def test_vllm_bench_results(write: Write) -> None:
    result = {
        "input_lens": [10, 20, 30],
        "output_lens": [5, 0, 7],
        "ttfts": [0.1, 0.0, 0.1],
        "start_times": [100.5, 100.0, 101.0],
        "errors": ["", "refused", ""],
    }
    path = write("r.json", json.dumps(result))
    assert detect_format(path) == "vllm_bench"
    load = read_trace(path)
    assert shapes(list(load.requests())) == [(500_000_000, 10, 5), (10**9, 30, 7)]
    assert "1 failed requests left out" in load.source
    appended = write("r2.json", json.dumps(result) + "\n" + json.dumps(result | {"input_lens": [1, 2, 3]}))
    assert [r.prompt_tokens for r in read_trace(appended, run=1).requests()] == [1, 3]
    indented = write("r3.json", json.dumps(result, indent=2))
    assert read_trace(indented).count == 2


def test_every_format_can_be_named() -> None:
    for name in FORMATS:
        with pytest.raises(TraceError, match="no such file"):
            read_trace("missing", name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spread": True}, "did you mean 'spread_ticks'"),
        ({"spread_ticks": 3}, "expected true or false"),
    ],
)
def test_wrong_options(write: Write, options: dict[str, Any], message: str) -> None:
    path = write("m.jsonl", jsonl({"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [0]}))
    with pytest.raises(InputError, match=message):
        read_trace(path, **options)
