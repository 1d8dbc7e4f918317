"""Numbers far outside any real scenario are refused or run; none ends in a traceback or a numpy warning."""

from __future__ import annotations

import warnings

import pytest

from simserve import load_scenario, simulate
from simserve.errors import InputError

BASE = (
    "model: llama-3.1-8b\n"
    "workload: {arrivals: 10, prompt_tokens: 100, output_tokens: 5, requests: 5}\n"
    "pools: h100-sxm\n"
)


def run(override: str) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        summary = simulate(load_scenario(BASE, [override])).summary
    ended = summary["completed"] + summary["failed"] + summary["unfinished"]
    return int(ended)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("workload.arrivals.rate_per_s=1e-300", "arrivals reach beyond 292 years"),
        ("workload.arrivals.rate_per_s=1e300", "at most 1e[+]09"),
        ("workload.arrivals={kind: gamma, rate_per_s: 1, cv: 1e200}", "at most 1000"),
        ("workload.prompt_tokens=99999999999999999999", "at most 1.09951e[+]12"),
        ("workload.prompt_tokens={median: 100, sigma: 1e5}", "at most 50"),
        ("workload.client={timeout_s: 1e300}", "at most 1e[+]09"),
        ("workload.sessions={turns: 3, think_time_s: 1e300}", "at most 1e[+]09"),
        ("workload.priority=99999999999999999999", "workload.priority"),
        ("cost={kind: constant, base_s: 1e300}", "at most 3600"),
        ("cost={kind: linear, base_s: 1, per_context_token_s: 1e9}", "at most 1"),
    ],
)
def test_beyond_the_bounds(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(override)


@pytest.mark.parametrize(
    "override",
    [
        "workload.arrivals.rate_per_s=1e9",
        "workload.arrivals={kind: gamma, rate_per_s: 1, cv: 1000}",
        "workload.prompt_tokens={median: 100, sigma: 50}",
        "workload.prompt_tokens=1099511627776",
        "workload.client={timeout_s: 1e-300}",
        "workload.priority=-2147483648",
        "cost={kind: linear, base_s: 3600, per_context_token_s: 1}",
    ],
)
def test_at_the_bounds(override: str) -> None:
    assert run(override) == 5
