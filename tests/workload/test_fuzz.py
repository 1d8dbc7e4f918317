"""Whatever is done to a trace file, it is read or refused; nothing else escapes."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simserve.errors import TraceError
from simserve.workload.statistics import describe_trace
from simserve.workload.trace import FORMATS, read_trace

ROW = {"input_length": 40, "output_length": 5, "hash_ids": [1, 2]}
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens",
    "2023-11-16 18:17:03.97,48,10",
    "2023-11-16 18:17:04.03,31,8",
)
BURSTGPT = (
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens",
    "5,7,2,GPT-4,4,1",
    "6,7,1,GPT-4,5,2",
)
RESULT = {"input_lens": [1, 2], "output_lens": [3, 4], "start_times": [0.5, 0.1], "errors": ["", ""]}
SEEDS: dict[str, str] = {
    "azure": "\n".join(AZURE),
    "burstgpt": "\n".join(BURSTGPT),
    "lengths": "num_prefill_tokens,num_decode_tokens\n3,4\n5,6\n",
    "csv": "arrival_s,prompt_tokens,output_tokens,priority\n0,1,2,-1\n1.5,3,4,7\n",
    "jsonl": '{"simserve_trace": 1}\n{"arrival_ns":1,'
    '"prompt_tokens":3,"output_tokens":2,"prompt":[[7,0,2],[8,0,1]]}\n',
    "agent": json.dumps({"session": 0, "turn": 0, "t_us": 5, **ROW}) + "\n",
    "bailian": json.dumps({"chat_id": 1, "parent_chat_id": -1, "timestamp": 1.5, **ROW}) + "\n",
    "llmservingsim": json.dumps(
        {"input_toks": 3, "output_toks": 2, "arrival_time_ns": 9, "input_tok_ids": [1, 2, 3]}
    )
    + '\n{"arrival_time_ns": 1, "sub_requests": [{"input_toks": 1, "output_toks": 1}]}\n',
    "mooncake": json.dumps({"timestamp": 27, **ROW}) + "\n",
    "vllm_bench": json.dumps(RESULT),
    "servegen": "client,start_s,rate_rps,cv,dist,p1,p2\n0,0,0.1,3.0,Gamma,0.111,1\n",
}
INSERTS = [
    "",
    "-",
    "9" * 30,
    "nan",
    "1e999",
    '"',
    "{",
    "]",
    "null",
    "true",
    "\n",
    ",",
    "\0",
    "é",
    "[[1]]",
    "\\",
]


def test_every_format_is_fuzzed() -> None:
    assert set(SEEDS) == set(FORMATS) - {"parquet"}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(SEEDS)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6), st.sampled_from(INSERTS)), max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_mutations(
    tmp_path: Path, name: str, edits: list[tuple[float, int, str]], named: bool, zipped: bool
) -> None:
    text = SEEDS[name]
    for place, removed, inserted in edits:
        at = int(place * len(text))
        text = text[:at] + inserted + text[at + removed :]
    path = tmp_path / "t_client_windows"
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    (tmp_path / "t_length_quantiles").write_text("client,start_s,field,q0,q1\n0,0,output_tokens,1,9\n")
    error = None
    try:
        load = read_trace(path, name if named else "auto")
    except TraceError as caught:
        error = caught
    if error is None:
        assert all(request.prompt_tokens >= 1 <= request.output_tokens for request in load.requests())
        assert describe_trace(load).requests == load.count
    else:
        assert str(error).startswith(str(path).removesuffix("client_windows"))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=200))
def test_arbitrary_bytes(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / "t"
    path.write_bytes(data)
    for format in ("auto", name):
        with suppress(TraceError):
            read_trace(path, format)
