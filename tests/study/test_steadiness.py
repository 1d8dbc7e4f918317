"""What a run says of its load: that it was offered, that no queue grew, and how sure that is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate
from simserve.study.load import load_of
from simserve.study.steadiness import Evidence, judged_window, read_evidence

# As many requests as it takes: 4 in the system, 3 * 2 of 200 between are 3 %.
SURE = Evidence(400, span_s=100.0, offered_share=1.0, growth=0.0, in_system=4.0, mean_e2el_s=1.0)
CHAT = """
model: llama-3.1-8b
workload: {arrivals: 4, prompt_tokens: 16, output_tokens: 1, requests: 40}
pools: h100-sxm
cost: {kind: constant, base_s: 0.1}
"""


def test_a_sure_run_leaves_no_doubt() -> None:
    assert SURE.steady
    assert SURE.tell_doubt(4.0) == SURE.tell_unoffered(4.0) == ""


def test_growth_within_chance_is_told_with_how_many_requests_would_tell_it() -> None:
    crowded = replace(SURE, in_system=100.0)
    assert crowded.chance == pytest.approx(0.15)
    for growth, steady in ((0.17, True), (0.19, False)):
        assert replace(crowded, growth=growth).steady is steady
    told = crowded.tell_doubt(4.0)
    assert "grows by up to 18.0% of the arrivals from chance" in told
    assert "may be that much lower; 2,000 requests would tell 6.0%" in told
    assert not replace(crowded, requests=2000).tell_doubt(4.0)


def test_arrivals_that_end_while_the_system_fills_are_doubtful_both_ways() -> None:
    told = replace(SURE, mean_e2el_s=30.0).tell_doubt(4.0)
    assert told.startswith("at 4/s the 400 requests arrive within 100 s, and one takes 30 s on average")
    assert told.endswith("it may hold more, or less")
    assert replace(SURE, mean_e2el_s=101.0).tell_unoffered(4.0).endswith("more requests can tell more")


@pytest.mark.parametrize(
    ("change", "follows", "share"),
    [
        ("arrivals: 4", "", 1.0),
        # Ten of the forty begin a session; their later turns come 1,000 s later.
        ("sessions: {turns: 4, think_time_s: 1000, think_time_cv: 0}, arrivals: 4", "sessions", 0.25),
        # One server of 0.1 s, and one request at a time: ten a second of forty.
        ("client: {max_concurrency: 1}, arrivals: {kind: constant, rate_per_s: 40}", "client", 0.25),
    ],
)
def test_what_was_offered(change: str, follows: str, share: float) -> None:
    scenario = load_scenario(CHAT.replace("arrivals: 4", change))
    load = load_of(scenario)
    evidence = read_evidence(load, simulate(scenario, workload=load))
    assert evidence.follows == follows
    assert evidence.offered_share == pytest.approx(share, abs=0.06)
    assert bool(evidence.tell_unoffered(4.0)) == (share < 1)


def test_with_sessions_what_is_judged_ends_with_the_last_that_begins() -> None:
    scenario = load_scenario(
        CHAT.replace("arrivals: 4", "arrivals: 4, sessions: {turns: 4, think_time_s: 100, think_time_cv: 0}")
    )
    load = load_of(scenario)
    result = simulate(scenario, workload=load)
    begins = load.arrival_ns[load.predecessor < 0] / 1e9 if load.predecessor is not None else load.arrival_ns
    window = judged_window(load, result)
    assert window.warmup_s == pytest.approx((begins[0] + begins[-1]) / 2)
    assert max(result.requests.arrival_ns) / 1e9 - window.cooldown_s == pytest.approx(begins[-1])
