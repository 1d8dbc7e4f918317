"""What is written is what is read back, field by field, and the same bytes each time."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simserve.errors import InputError, TraceError
from simserve.workload import rates
from simserve.workload.arrivals import ArrivalProcess
from simserve.workload.generator import Generator, IndependentLengths
from simserve.workload.lengths import LogNormal, Uniform
from simserve.workload.prefixes import PrefixGroups
from simserve.workload.sessions import Sessions
from simserve.workload.trace import detect_format, read_trace
from simserve.workload.workload import Labels, Workload
from simserve.workload.writing import write_trace

POISSON = ArrivalProcess("poisson", rates.constant_rate(3.0))
LENGTHS = IndependentLengths(LogNormal(50, 1), LogNormal(20, 1))


def rich(seed: int, count: int) -> Workload:
    """A workload with every field in use."""
    load = Generator(
        LENGTHS,
        POISSON,
        requests=count,
        prefixes=PrefixGroups(Uniform(5, 40), (1, 2)),
        sessions=Sessions(Uniform(1, 4), None, 1),
    ).generate(seed)
    numbers = np.arange(load.count)
    return replace(
        load,
        max_tokens=load.output_tokens + numbers % 3,
        priority=numbers % 5 - 2,
        tenant=Labels(numbers % 2, ('a,b\n"c"', "ünï")),
        slo_class=Labels(numbers % 3 // 2, ("", "fast")),
        block_tokens=16,
    )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1000), st.integers(1, 60), st.sampled_from(["t.jsonl", "t.jsonl.gz", "t.parquet"]))
def test_every_field_survives(tmp_path: Path, seed: int, count: int, name: str) -> None:
    load = rich(seed, count)
    path = tmp_path / name
    write_trace(load, path)
    assert detect_format(path) == ("parquet" if name.endswith("parquet") else "jsonl")
    found = read_trace(path)
    assert list(found.requests()) == list(load.requests())
    assert (found.source, found.block_tokens, found.has_arrivals) == (load.source, 16, True)
    first = path.read_bytes()
    write_trace(load, path)
    assert path.read_bytes() == first
    assert not list(tmp_path.glob(".*"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 2**51), st.integers(0, 10**6), st.integers(0, 10**6)),
        min_size=1,
        max_size=20,
    )
)
def test_tables_survive_to_the_nanosecond(tmp_path: Path, rows: list[tuple[int, int, int]]) -> None:
    columns = np.array(sorted(rows), dtype=np.int64).T
    load = Workload("table", *(column.copy() for column in columns))
    write_trace(load, tmp_path / "t.csv")
    found = read_trace(tmp_path / "t.csv")
    assert found.arrival_ns.tolist() == load.arrival_ns.tolist()
    assert list(found.requests()) == list(load.requests())
    assert found.zero_lengths == load.zero_lengths


def test_labels_survive_in_tables(tmp_path: Path) -> None:
    load = Workload(
        "table",
        np.array([1, 2]),
        np.array([3, 4]),
        np.array([5, 6]),
        tenant=Labels(np.array([0, 1]), ("x", "")),
    )
    load = replace(load, priority=np.array([0, -3]), slo_class=Labels(np.array([0, 0]), ("fast",)))
    write_trace(load, tmp_path / "t.csv.gz")
    assert list(read_trace(tmp_path / "t.csv.gz").requests()) == list(load.requests())


def test_traces_without_arrivals_stay_so(tmp_path: Path) -> None:
    load = Workload("lengths", np.zeros(2, np.int64), np.array([3, 4]), np.array([5, 6]), has_arrivals=False)
    for name in ("t.jsonl", "t.parquet"):
        write_trace(load, tmp_path / name)
        assert not read_trace(tmp_path / name).has_arrivals


def test_what_a_table_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a \.jsonl or \.parquet name"):
        write_trace(rich(0, 5), tmp_path / "t.csv")
    with pytest.raises(InputError, match="cannot tell a trace format"):
        write_trace(rich(0, 5), tmp_path / "t.txt")
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError, match="cannot write the trace"):
        write_trace(rich(0, 5), tmp_path / "file" / "t.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_equal_gzip_bytes_carry_no_time(tmp_path: Path) -> None:
    write_trace(rich(0, 5), tmp_path / "t.jsonl.gz")
    data = (tmp_path / "t.jsonl.gz").read_bytes()
    assert data[4:8] == b"\0\0\0\0"
    assert json.loads(gzip.decompress(data).splitlines()[0])["simserve_trace"] == 1


HEADER = '{"simserve_trace": 1}\n'
ROW = {"arrival_ns": 5, "prompt_tokens": 3, "output_tokens": 2}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ROW | {"prompt": [[0, 0, 2]]}, r"t\.jsonl:3: prompt is .* of 3 tokens in all"),
        (ROW | {"prompt": [[0, 0, "3"]]}, r"t\.jsonl:3: prompt is"),
        (ROW | {"predecessor": 1}, r"t\.jsonl:3: predecessor is 1; expected requests in order"),
        (ROW | {"arrival_ns": 4}, r"t\.jsonl:3: .*expected requests in order of arrival"),
        (ROW | {"max_tokens": 0}, r"t\.jsonl:3: max_tokens is 0; expected an integer, at least 1"),
        (ROW | {"prompts": []}, r"t\.jsonl:3: unknown field 'prompts'"),
    ],
)
def test_broken_rows_of_our_own(tmp_path: Path, row: dict[str, object], expected: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(HEADER + json.dumps(ROW) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(TraceError, match=expected):
        read_trace(path)


def test_prompts_without_stated_sharing_get_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    rows = [ROW | {"prompt": [[7, 0, 2], [8, 0, 1]]}, ROW | {"prompt": [[7, 0, 2], [9, 0, 1]]}]
    path.write_text(HEADER + "".join(json.dumps(row) + "\n" for row in rows))
    assert [request.shared_tokens for request in read_trace(path).requests()] == [2, 2]


def test_a_foreign_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(TraceError, match="no parquet trace of simserve"):
        read_trace(tmp_path / "t.parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"arrival_ns": [1]}), tmp_path / "t.parquet")
    with pytest.raises(TraceError, match="no parquet trace of simserve"):
        read_trace(tmp_path / "t.parquet")
