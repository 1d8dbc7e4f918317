"""A run as a trace: every slice lies where the run says, and every arrow begins and ends in one."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from simserve.report.perfetto import Event, trace_events, write_perfetto
from simserve.report.run_folder import RunFolder
from tests.report.runs import made

Slices = dict[tuple[int, int], list[tuple[float, float]]]


@pytest.fixture(scope="module", params=["quickstart", "pipeline-parallel"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    short = {"quickstart": "workload.trace.limit=120", "pipeline-parallel": "workload.requests=60"}
    return made(f"{request.param}.yaml", tmp_path_factory.mktemp("run") / "out", short[request.param])


@pytest.fixture(scope="module")
def events(run: RunFolder) -> list[Event]:
    return list(trace_events(run))


def slices_of(events: list[Event]) -> Slices:
    """Begin and end of the slices of each thread, in order."""
    found: Slices = {}
    for event in events:
        if event["ph"] == "X":
            begin = event["ts"]
            found.setdefault((event["pid"], event["tid"]), []).append((begin, round(begin + event["dur"], 3)))
    return {thread: sorted(slices) for thread, slices in found.items()}


def test_a_trace_has_every_step(run: RunFolder, events: list[Event]) -> None:
    steps = [event for event in events if event["ph"] == "X" and event["cat"] == "step"]
    assert sum(event["args"]["steps"] for event in steps) == run.summary["steps"]


def test_slices_of_a_track_do_not_overlap(events: list[Event]) -> None:
    for slices in slices_of(events).values():
        assert all(begin < end for begin, end in slices)
        assert all(end <= after for (_, end), (after, _) in pairwise(slices))


def test_a_request_is_on_its_track_from_its_arrival_on(run: RunFolder, events: list[Event]) -> None:
    lives: dict[int, list[Event]] = {}
    for event in events:
        if event["ph"] in "be":
            lives.setdefault(event["id"], []).append(event)
    requests = run.requests
    assert sorted(lives) == sorted(requests["request_id"].tolist())
    for row, request in enumerate(requests["request_id"].tolist()):
        times = [event["ts"] for event in lives[request]]
        assert times == sorted(times)
        assert times[0] == pytest.approx(requests["arrival_s"][row] * 1e6, abs=1e-3)
        assert times[-1] == pytest.approx(requests["finish_s"][row] * 1e6, abs=1e-3)
        waited = requests["first_scheduled_s"][row] > requests["arrival_s"][row]
        assert [event["name"] == "queued" for event in lives[request][:2]] == [waited, waited]


def test_arrows_lead_from_arrivals_to_first_steps(run: RunFolder, events: list[Event]) -> None:
    slices = slices_of(events)
    for phase, column in (("s", "arrival_s"), ("f", "first_scheduled_s")):
        ends = {event["id"]: event for event in events if event["ph"] == phase}
        for row, request in enumerate(run.requests["request_id"].tolist()):
            event = ends[request]
            assert event["ts"] == pytest.approx(run.requests[column][row] * 1e6, abs=1e-3)
            thread = slices[event["pid"], event["tid"]]
            assert any(begin <= event["ts"] < end for begin, end in thread)


def test_counters_are_zero_where_nothing_runs(tmp_path: Path) -> None:
    run = made("queueing-check.yaml", tmp_path / "out", "workload.requests=50")
    counted = [e for e in trace_events(run) if e["ph"] == "C" and e["name"] == "running"]
    begin = np.array([event["ts"] for event in counted]) / 1e6
    values = np.array([event["args"]["value"] for event in counted])
    # From the end of a row of steps to the start of the next there is nothing to do.
    starts, ends = run.steps["start_s"], run.steps["end_s"]
    idle = np.flatnonzero(starts[1:] > ends[:-1] + 1e-6)
    assert len(idle)
    middle = (ends[idle] + starts[idle + 1]) / 2
    assert (values[np.searchsorted(begin, middle, side="right") - 1] == 0).all()
    assert values[-1] == 0


def test_a_trace_is_the_same_bytes_each_time(run: RunFolder, tmp_path: Path) -> None:
    one, two = tmp_path / "a.json.gz", tmp_path / "b.json.gz"
    write_perfetto(run, one)
    write_perfetto(RunFolder.read(run.path), two)
    assert one.read_bytes() == two.read_bytes()
    assert json.loads(gzip.decompress(one.read_bytes()))["traceEvents"]
