"""The `workload:` section: short forms, what it refuses, and what is built from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from simserve.errors import InputError
from simserve.scenario.workload_build import build_workload
from simserve.scenario.workload_schema import WorkloadSpec
from simserve.workload.workload import Workload

BASIC: dict[str, Any] = {"arrivals": 10, "prompt_tokens": 100, "output_tokens": 20, "requests": 500}


def build(section: Any, folder: Path = Path(), seed: int = 0) -> Workload:
    return build_workload(
        WorkloadSpec.model_validate(section), seed=seed, find_file=lambda name: folder / name
    )


def without(*keys: str, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in BASIC.items() if key not in keys} | more


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("a.csv", {"trace": {"path": "a.csv"}}),
        ({"trace": "a.csv"}, {"trace": {"path": "a.csv"}}),
        ({"servegen": "a.csv"}, {"servegen": {"windows": "a.csv"}}),
        (BASIC | {"arrivals": "600/min"}, BASIC | {"arrivals": {"kind": "poisson", "rate_per_s": 10.0}}),
        (BASIC, BASIC | {"prompt_tokens": {"kind": "constant", "value": 100}}),
        (
            BASIC | {"prompt_tokens": {"min": 1, "max": 9}},
            BASIC | {"prompt_tokens": {"kind": "uniform", "min": 1, "max": 9}},
        ),
        (BASIC | {"client": 8}, BASIC | {"client": {"max_concurrency": 8}}),
        (BASIC | {"tenants": {"a": 2}}, BASIC | {"tenants": [{"name": "a", "weight": 2}]}),
    ],
)
def test_short_forms(short: Any, long: Any) -> None:
    assert WorkloadSpec.model_validate(short) == WorkloadSpec.model_validate(long)


def test_a_section_survives_json() -> None:
    spec = WorkloadSpec.model_validate(BASIC | {"prompt_tokens": {"quantiles": {"0": 1, "0.5": 10, "1": 99}}})
    assert WorkloadSpec.model_validate(json.loads(spec.model_dump_json())) == spec


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "expected one of trace, servegen, arrivals; found none"),
        (BASIC | {"trace": "a.csv"}, "found trace and arrivals"),
        (
            {"trace": "a.csv", "requests": 5},
            "requests belongs to generated requests, not to a trace; expected trace.limit",
        ),
        ({"trace": "a.csv", "sessions": {"turns": 3}}, "sessions belongs to generated requests"),
        (without("prompt_tokens"), "need prompt_tokens and output_tokens, or pairs"),
        (BASIC | {"pairs": "a.csv"}, "pairs stands in place of prompt_tokens"),
        (without("requests"), "need requests .* or duration_s"),
        (BASIC | {"arrivals": -3}, "greater than 0"),
        (BASIC | {"arrivals": "10 GiB"}, "unknown unit 'GiB'"),
        (BASIC | {"arrivals": {"kind": "gamma", "rate_per_s": 1}}, "gamma takes `cv` or `burstiness`"),
        (BASIC | {"arrivals": {"rate_per_s": 1, "cv": 2}}, "poisson takes no cv"),
        (BASIC | {"arrivals": {"kind": "closed_loop"}}, "closed_loop takes `concurrency`"),
        (
            BASIC | {"arrivals": {"kind": "closed_loop", "concurrency": 4}, "client": 4},
            "expected one of them",
        ),
        (
            BASIC | {"arrivals": {"rate_per_s": 1, "concurrency": 4}},
            "concurrency belongs to kind: closed_loop",
        ),
        (BASIC | {"arrivals": {"kind": "poisson"}}, "either `rate_per_s` or `schedule`"),
        (BASIC | {"arrivals": {"schedule": {"kind": "ramp", "from_per_s": 1}}}, "ramp needs to_per_s"),
        (BASIC | {"arrivals": {"schedule": {"kind": "steps", "points": [[5, 1]]}}}, "must start at time 0"),
        (
            BASIC
            | {
                "arrivals": {
                    "schedule": {"kind": "sine", "mean_per_s": 1, "amplitude_per_s": 2, "period_s": 9}
                }
            },
            "the amplitude is above the mean",
        ),
        (BASIC | {"prompt_tokens": 0}, "greater than or equal to 1"),
        (BASIC | {"prompt_tokens": {"mean": 5, "median": 5, "sigma": 1}}, "either mean or median"),
        (BASIC | {"prompt_tokens": {"mean": 5}}, "either sigma or cv"),
        (BASIC | {"prompt_tokens": {"min": 9, "max": 5}}, "min 9 is above max 5"),
        (BASIC | {"prompt_tokens": {"value": 9, "max": 10}}, "max does not belong to kind: constant"),
        (BASIC | {"prompt_tokens": {"quantiles": {"0": 5, "0.5": 1, "1": 9}}}, "must not fall"),
        (BASIC | {"prompt_tokens": {"quantiles": {"0.1": 5, "1": 9}}}, "needs the lengths at 0 and at 1"),
        (BASIC | {"prefixes": {"groups": 2, "tokens": 5, "weights": [1]}}, "one weight for each of 2 groups"),
        (BASIC | {"promt_tokens": 5}, "Extra inputs"),
        (BASIC | {"requests": "many"}, "valid integer"),
        (BASIC | {"requests": True}, "valid integer"),
        (BASIC | {"tenants": {"a": 0}}, "greater than 0"),
    ],
)
def test_what_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WorkloadSpec.model_validate(section)


def test_every_key_is_described() -> None:
    schema = WorkloadSpec.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    for model in models:
        long = next((form for form in model.get("anyOf", []) if "properties" in form), model)
        assert long["properties"]
        for name, value in long["properties"].items():
            assert value.get("description"), f"{model.get('title')}.{name}"


def test_generated_requests() -> None:
    load = build(BASIC)
    assert load.count == 500
    assert load.arrival_ns[-1] / 1e9 == pytest.approx(50, rel=0.2)
    assert set(load.prompt_tokens.tolist()) == {100}
    again, other = build(BASIC), build(BASIC, seed=1)
    assert np.array_equal(load.arrival_ns, again.arrival_ns)
    assert not np.array_equal(load.arrival_ns, other.arrival_ns)


def test_schedules_bursts_and_closed_loops() -> None:
    steps = build(BASIC | {"arrivals": {"schedule": {"kind": "steps", "points": [[0, 1], [10, 100]]}}})
    assert np.count_nonzero(steps.arrival_ns < 10e9) < 25
    bursty = build(
        BASIC | {"arrivals": {"kind": "gamma", "rate_per_s": 10, "burstiness": 0.25}, "requests": 20_000}
    )
    gaps = np.diff(bursty.arrival_ns)
    assert gaps.std() / gaps.mean() == pytest.approx(2, rel=0.1)
    closed = build(BASIC | {"arrivals": {"kind": "closed_loop", "concurrency": 7}})
    assert (closed.client.max_concurrency, closed.arrival_ns.max()) == (7, 0)


def test_labels_and_limits() -> None:
    load = build(
        BASIC
        | {
            "priority": 5,
            "slo_class": "slow",
            "tenants": [{"name": "a"}, {"name": "b", "priority": 1, "slo_class": "fast"}],
            "max_tokens": 10,
            "client": {"max_concurrency": 9, "timeout_s": 1.5},
        }
    )
    kinds = {(r.tenant, r.priority, r.slo_class, r.output_tokens, r.max_tokens) for r in load.requests()}
    assert kinds == {("a", 5, "slow", 10, 10), ("b", 1, "fast", 10, 10)}
    assert (load.client.max_concurrency, load.client.timeout_ns) == (9, 1_500_000_000)


def test_sessions_with_prefixes() -> None:
    load = build(
        BASIC
        | {
            "requests": 100,
            "prefixes": {"groups": 3, "tokens": 64, "weights": [1, 2, 3]},
            "sessions": {"turns": 4, "new_tokens": 7, "think_time_s": 2, "think_time_cv": 0},
        }
    )
    first = next(iter(load.requests()))
    (second,) = first.follow_ups
    assert (first.prompt_tokens, second.prompt_tokens, second.gap_ns) == (164, 164 + 20 + 7, 2 * 10**9)
    assert len(list(load.requests())) == 25


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text(
        "arrival_s,prompt_tokens,output_tokens\n0,5,6\n2,70,0\n60,9,8\n61,9,900\n"
    )
    (tmp_path / "l.csv").write_text("num_prefill_tokens,num_decode_tokens\n10,1\n20,2\n")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "arrivals_s"),
    [
        ({}, [0, 2, 60, 61]),
        ({"rate_scale": 2}, [0, 1, 30, 30.5]),
        ({"limit": 2}, [0, 2]),
        ({"start_s": 1, "duration_s": 59.5}, [1, 59]),
        ({"max_input_tokens": 50, "max_output_tokens": 100}, [0, 60]),
        ({"arrivals": {"kind": "constant", "rate_per_s": 4}}, [0, 0.25, 0.5, 0.75]),
    ],
)
def test_traces_and_their_options(folder: Path, options: dict[str, Any], arrivals_s: list[float]) -> None:
    load = build({"trace": {"path": "t.csv", **options}}, folder)
    assert (load.arrival_ns / 1e9).tolist() == arrivals_s


def test_pairs_come_from_a_trace(folder: Path) -> None:
    load = build({"arrivals": 5, "pairs": "l.csv", "requests": 50}, folder)
    assert set(zip(load.prompt_tokens.tolist(), load.output_tokens.tolist(), strict=True)) == {
        (10, 1),
        (20, 2),
    }


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"trace": "l.csv"}, r"l\.csv records lengths only; expected `arrivals`"),
        ({"trace": {"path": "t.csv", "spread_ticks": True}}, "format 'csv' have no option 'spread_ticks'"),
        ({"trace": {"path": "t.csv", "format": "azur"}}, "did you mean 'azure'"),
        ({"trace": {"path": "t.csv", "start_s": 99}}, "no request of t.csv is left"),
        ({"trace": "missing.csv"}, r"missing\.csv: no such file"),
        (
            {"arrivals": 5, "pairs": {"path": "l.csv", "max_input_tokens": 1}, "requests": 5},
            "no row of l.csv is left",
        ),
    ],
)
def test_what_a_trace_cannot_give(folder: Path, section: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(section, folder)


def test_arrivals_for_a_lengths_only_trace(folder: Path) -> None:
    load = build({"trace": {"path": "l.csv", "arrivals": 5}}, folder)
    assert load.has_arrivals
    assert load.prompt_tokens.tolist() == [10, 20]
    assert load.arrival_ns[0] > 0
