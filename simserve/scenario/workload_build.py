"""From the scenario's `workload:` section to the workload; all draws follow from the scenario's seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from simserve import rng
from simserve.data_files import find_file
from simserve.errors import InputError, ScenarioError
from simserve.scenario.schema import Scenario
from simserve.scenario.workload_schema import (
    ArrivalSpec,
    LengthSpec,
    PairsSpec,
    RateSpec,
    ServeGenSpec,
    SessionSpec,
    TraceSpec,
    WorkloadSpec,
)
from simserve.units import NS_PER_S, seconds_to_ns
from simserve.workload import rates
from simserve.workload.arrivals import ArrivalProcess
from simserve.workload.client import Client
from simserve.workload.generator import Generator, IndependentLengths, LengthPairs, TraceLengths
from simserve.workload.lengths import Constant, Lengths, LogNormal, Quantiles, Uniform
from simserve.workload.prefixes import PrefixGroups, zipf_weights
from simserve.workload.sessions import Sessions
from simserve.workload.shaping import Tenant, label_tenants, limit_tokens, scale_rate, select, with_arrivals
from simserve.workload.trace import detect_format, options_of, read_trace
from simserve.workload.workload import Labels, Workload

FindFile = Callable[[str], Path]


def workload_of(scenario: Scenario) -> Workload:
    """Return the requests that a scenario describes; files are sought beside it first.

    Raises:
        TraceError: If a trace is broken.
        InputError: If a file is missing, or the section asks for something that its trace cannot give.
    """
    return build_workload(
        scenario.workload, seed=scenario.seed, find_file=lambda path: find_file(path, scenario.folder)
    )


def build_workload(spec: WorkloadSpec, *, seed: int, find_file: FindFile) -> Workload:
    """Return the workload of a scenario.

    Args:
        spec: The scenario's `workload:` section.
        seed: The scenario's seed.
        find_file: Finds the files that the section names.

    Raises:
        TraceError: If a trace is broken.
        InputError: If a file is missing, or the section asks for something that its trace cannot give.
    """
    if spec.trace is not None:
        load = _trace(spec.trace, seed, find_file)
    elif spec.servegen is not None:
        load = _servegen(spec.servegen, spec.requests, seed, find_file)
    else:
        load = _generated(spec, seed, find_file)
    return _labelled(load, spec, seed)


def _trace(spec: TraceSpec, seed: int, find_file: FindFile) -> Workload:
    path = find_file(spec.path)
    name = detect_format(path) if spec.format == "auto" else spec.format
    load = read_trace(path, name, **_reader_options(spec, name, seed))
    load = select(
        load,
        start_ns=seconds_to_ns(spec.start_s),
        duration_ns=None if spec.duration_s is None else seconds_to_ns(spec.duration_s),
        max_input_tokens=spec.max_input_tokens,
        max_output_tokens=spec.max_output_tokens,
        limit=spec.limit,
    )
    if not load.count:
        raise InputError(f"no request of {spec.path} is left after start_s, duration_s and the token limits")
    if spec.arrivals is not None:
        times = _arrival_times(spec.arrivals, load, seed, find_file)
        load = replace(with_arrivals(load, times), client=_client(spec.arrivals))
    elif not load.has_arrivals:
        raise ScenarioError(
            f"{spec.path} records lengths only; expected `arrivals` beside its path, such as 10/s"
        )
    return scale_rate(load, spec.rate_scale)


def _reader_options(spec: TraceSpec, name: str, seed: int) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    if spec.spread_ticks:
        wanted["spread_ticks"] = True
    if spec.release is not None:
        wanted["release"] = spec.release
    if spec.subtract_base_s or spec.subtract_per_token_s:
        wanted["subtract_base_s"] = spec.subtract_base_s
        wanted["subtract_per_token_s"] = spec.subtract_per_token_s
    if "seed" in options_of(name):
        wanted["seed"] = seed
    return wanted  # an option that the format does not have is refused by read_trace


def _arrival_times(spec: ArrivalSpec, load: Workload, seed: int, find_file: FindFile) -> Any:
    process = _process(spec, find_file)
    first_turns = load.count if load.predecessor is None else int((load.predecessor < 0).sum())
    if process is None:
        return np.zeros(first_turns, dtype=np.int64)
    return process.draw(rng.stream(seed, "arrivals"), first_turns)


def _servegen(spec: ServeGenSpec, requests: int | None, seed: int, find_file: FindFile) -> Workload:
    load = read_trace(
        find_file(spec.windows),
        "servegen",
        seed=seed,
        start_s=spec.start_s,
        duration_s=spec.duration_s,
        clients=spec.clients,
        rate_per_s=spec.rate_per_s,
        rate_scale=spec.rate_scale,
        lengths=None if spec.lengths is None else find_file(spec.lengths),
    )
    return load if requests is None else load.head(requests)


def _generated(spec: WorkloadSpec, seed: int, find_file: FindFile) -> Workload:
    assert spec.arrivals is not None
    prefixes = None
    if spec.prefixes is not None:
        weights = spec.prefixes.weights or zipf_weights(spec.prefixes.groups, spec.prefixes.zipf)
        prefixes = PrefixGroups(_lengths(spec.prefixes.tokens), weights)
    recipe = Generator(
        lengths=_length_pairs(spec, find_file),
        arrivals=_process(spec.arrivals, find_file),
        requests=spec.requests,
        duration_s=spec.duration_s,
        prefixes=prefixes,
        sessions=None if spec.sessions is None else _sessions(spec.sessions),
        client=_client(spec.arrivals),
    )
    return recipe.generate(seed)


def _length_pairs(spec: WorkloadSpec, find_file: FindFile) -> LengthPairs:
    if spec.pairs is not None:
        return TraceLengths(_pairs(spec.pairs, find_file))
    assert spec.prompt_tokens is not None
    assert spec.output_tokens is not None
    return IndependentLengths(_lengths(spec.prompt_tokens), _lengths(spec.output_tokens))


def _pairs(spec: PairsSpec, find_file: FindFile) -> Workload:
    load = read_trace(find_file(spec.path), spec.format)
    load = select(load, max_input_tokens=spec.max_input_tokens, max_output_tokens=spec.max_output_tokens)
    if not load.count:
        raise InputError(f"no row of {spec.path} is left after the token limits")
    return load


def _lengths(spec: LengthSpec) -> Lengths:
    low = spec.min or 1
    if spec.kind == "constant":
        assert spec.value is not None
        return Constant(spec.value)
    if spec.kind == "uniform":
        assert spec.max is not None
        return Uniform(low, spec.max)
    if spec.kind == "lognormal":
        return LogNormal.of(spec.mean, spec.median, spec.sigma, spec.cv, low, spec.max)
    assert spec.quantiles is not None
    points = sorted(spec.quantiles.items())
    return Quantiles(tuple(p for p, _ in points), tuple(value for _, value in points), low, spec.max)


def _sessions(spec: SessionSpec) -> Sessions:
    return Sessions(
        turns=_lengths(spec.turns),
        new_tokens=None if spec.new_tokens is None else _lengths(spec.new_tokens),
        think_time_s=spec.think_time_s,
        think_time_cv=spec.think_time_cv,
        max_context_tokens=spec.max_context_tokens,
    )


def _process(spec: ArrivalSpec, find_file: FindFile) -> ArrivalProcess | None:
    """The arrival process, None for a closed loop."""
    if spec.kind == "closed_loop":
        return None
    if spec.schedule is not None:
        schedule = _schedule(spec.schedule, find_file)
    else:
        assert spec.rate_per_s is not None
        schedule = rates.constant_rate(spec.rate_per_s)
    cv = spec.cv if spec.burstiness is None else spec.burstiness**-0.5
    return ArrivalProcess(spec.kind, schedule, 1.0 if cv is None else cv)


def _schedule(spec: RateSpec, find_file: FindFile) -> rates.RateSchedule:
    if spec.kind == "csv":
        return rates.read_rates(find_file(str(spec.path)))
    if spec.kind == "steps":
        return rates.steps(list(spec.points or ()))
    if spec.kind == "ramp":
        return rates.ramp(spec.from_per_s or 0.0, spec.to_per_s or 0.0, spec.over_s or 0.0)
    if spec.kind == "sine":
        return rates.sine(spec.mean_per_s or 0.0, spec.amplitude_per_s or 0.0, spec.period_s or 0.0)
    return rates.spikes(
        spec.base_per_s or 0.0, spec.spike_per_s or 0.0, spec.every_s or 0.0, spec.spike_s or 0.0
    )


def _client(spec: ArrivalSpec) -> Client:
    return Client(max_concurrency=spec.concurrency)


def _labelled(load: Workload, spec: WorkloadSpec, seed: int) -> Workload:
    """The workload with the section's labels, token limit and client."""
    client = spec.client
    load = replace(
        load,
        client=Client(
            max_concurrency=client.max_concurrency or load.client.max_concurrency,
            timeout_ns=None if client.timeout_s is None else round(client.timeout_s * NS_PER_S),
        ),
    )
    if spec.max_tokens is not None:
        load = limit_tokens(load, spec.max_tokens)
    if spec.priority:
        load = replace(load, priority=np.full(load.count, spec.priority, dtype=np.int64))
    if spec.slo_class:
        load = replace(load, slo_class=Labels(np.zeros(load.count, dtype=np.int64), (spec.slo_class,)))
    if spec.tenants:
        tenants = [Tenant(part.name, part.weight, part.priority, part.slo_class) for part in spec.tenants]
        load = label_tenants(load, tenants, seed)
    return load
