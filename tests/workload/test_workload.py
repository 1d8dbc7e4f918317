"""Columns become requests: order, sessions, parts, and the cost of a million."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from simserve.errors import InputError
from simserve.workload.request import Request, Segment
from simserve.workload.shaping import (
    Tenant,
    label_tenants,
    limit_tokens,
    scale_rate,
    select,
    with_arrivals,
)
from simserve.workload.workload import Labels, Prompts, Workload


def column(*values: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def sessions() -> Workload:
    """Two sessions of three and two turns, their rows mixed, and a single request."""
    return Workload(
        "sessions",
        arrival_ns=column(0, 5, 10, 15, 20, 30),
        prompt_tokens=column(10, 20, 30, 40, 50, 60),
        output_tokens=column(1, 2, 3, 4, 5, 6),
        session=Labels(column(0, 1, 0, 1, 2, 0), ("a", "b", "")),
        predecessor=column(-1, -1, 0, 1, -1, 2),
        gap_ns=column(0, 0, 7, 8, 0, 9),
    )


def flatten(requests: list[Request]) -> list[Request]:
    return [r for request in requests for r in (request, *flatten(list(request.follow_ups)))]


def test_requests_of_plain_columns() -> None:
    load = Workload("plain", column(3, 5), column(7, 0), column(0, 9))
    assert list(load.requests()) == [
        Request(0, 3, (), 7, 1, 1, 0),
        Request(1, 5, (), 1, 9, 9, 1),
    ]
    assert (load.count, len(load), load.zero_lengths) == (2, 2, 2)


def test_prompts_are_tuples_of_segments() -> None:
    prompts = Prompts(column(0, 2, 2, 3), column(9, 8, 9), column(0, 4, 2), column(5, 6, 7))
    load = Workload("prompts", column(0, 1, 2), column(11, 3, 7), column(1, 1, 1), prompts=prompts)
    assert [r.prompt for r in load.requests()] == [
        (Segment(9, 0, 5), Segment(8, 4, 6)),
        (),
        (Segment(9, 2, 7),),
    ]
    assert [r.prompt for r in load.take(column(2, 0)).requests()] == [
        (Segment(9, 2, 7),),
        (Segment(9, 0, 5), Segment(8, 4, 6)),
    ]
    assert [r.output_stream for r in load.take(column(2, 0)).requests()] == [2, 0]


def test_follow_ups_hang_on_their_predecessor() -> None:
    requests = list(sessions().requests())
    assert [r.id for r in requests] == [0, 1, 4]
    assert [(r.id, r.gap_ns, r.session) for r in flatten(requests)] == [
        (0, 0, "a"),
        (2, 7, "a"),
        (5, 9, "a"),
        (1, 0, "b"),
        (3, 8, "b"),
        (4, 0, ""),
    ]


def test_parts_of_a_workload() -> None:
    assert [r.id for r in flatten(list(sessions().head(4).requests()))] == [0, 2, 1, 3]
    # The turn with 30 tokens goes, and the one behind it.
    kept = select(sessions(), max_input_tokens=50)
    assert kept.prompt_tokens.tolist() == [10, 20, 30, 40, 50]
    cut = select(replace(sessions(), predecessor=None), start_ns=10, duration_ns=10)
    assert cut.arrival_ns.tolist() == [0, 5]
    dropped = replace(sessions(), prompt_tokens=column(10, 20, 99, 40, 50, 60))
    assert select(dropped, max_input_tokens=60).prompt_tokens.tolist() == [10, 20, 40, 50]


def test_rates_scale_starts_and_keep_gaps() -> None:
    load = scale_rate(sessions(), 0.5)
    by_session = {r.session: [x.arrival_ns for x in flatten([r])] for r in load.requests()}
    assert by_session == {"a": [0, 10, 30], "b": [10, 20], "": [40]}
    assert load.arrival_ns.tolist() == sorted(load.arrival_ns.tolist())
    plain = scale_rate(Workload("plain", column(0, 10, 21), column(1, 1, 1), column(1, 1, 1)), 2)
    assert plain.arrival_ns.tolist() == [0, 5, 10]


def test_rates_that_the_clock_cannot_hold_are_refused() -> None:
    load = Workload("plain", column(0, 10, 21), column(1, 1, 1), column(1, 1, 1))
    assert scale_rate(load, 1e-17).arrival_ns[-1] == pytest.approx(2.1e18)
    with pytest.raises(InputError, match="beyond 292 years; expected a higher rate_scale"):
        scale_rate(load, 1e-18)


def test_new_arrivals_are_those_of_first_turns() -> None:
    load = with_arrivals(sessions(), column(100, 200, 300))
    assert [(r.arrival_ns, len(flatten([r]))) for r in load.requests()] == [(100, 3), (200, 2), (300, 1)]


def test_a_token_limit_cuts_or_ends_by_eos() -> None:
    requests = flatten(list(limit_tokens(sessions(), 3).requests()))
    assert sorted((r.output_tokens, r.max_tokens) for r in requests) == [
        (1, 3),
        (2, 3),
        (3, 3),
        (3, 3),
        (3, 3),
        (3, 3),
    ]


def test_tenants_keep_sessions_whole_and_follow_their_weights() -> None:
    load = label_tenants(sessions(), [Tenant("x", 1, priority=2), Tenant("y", 1, slo_class="fast")], seed=5)
    for request in load.requests():
        assert {r.tenant for r in flatten([request])} == {request.tenant}
        assert (request.priority, request.slo_class) == {"x": (2, ""), "y": (0, "fast")}[request.tenant]
    many = Workload("many", np.arange(20_000), np.ones(20_000, np.int64), np.ones(20_000, np.int64))
    labelled = label_tenants(many, [Tenant("x", 3), Tenant("y", 1)], seed=0)
    assert labelled.tenant is not None
    # Four standard deviations of a binomial share: 4 * sqrt(0.75 * 0.25 / 20000).
    assert np.mean(labelled.tenant.codes == 0) == pytest.approx(0.75, abs=0.0125)


def test_a_million_requests_are_cheap() -> None:
    """Made and iterated in under 2 s of CPU (about 0.6 s on one core of 2024), never all at once."""
    start = time.process_time()
    count = 1_000_000
    rng = np.random.default_rng(0)
    arrivals = np.rint(rng.standard_exponential(count).cumsum() * 1e6).astype(np.int64)
    load = Workload("million", arrivals, np.full(count, 2048), np.full(count, 128))
    last = -1
    for request in load.requests():
        last = request.id
    assert last == count - 1
    assert time.process_time() - start < 2
