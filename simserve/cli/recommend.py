"""`simserve recommend`: the configuration that serves a load within its objectives best."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from simserve.cli.executor_options import CountLine, warn_if_unsure
from simserve.cli.space import Axes, describe_space, fill_space
from simserve.errors import InputError, SimserveError
from simserve.report.table import format_number, print_table

if TYPE_CHECKING:
    from simserve.scenario.schema import Scenario
    from simserve.study.candidates import Candidate
    from simserve.study.executor import Executor
    from simserve.study.options import Option, Recommendation
    from simserve.study.probe import Probe
    from simserve.study.recommend import Budget
    from simserve.study.sizing import Limits

_MOST_ROWS = 20


def print_recommendation(
    file: str,
    overrides: list[str],
    slo: str,
    *,
    objective: Literal["cost", "gpus", "throughput_per_gpu", "energy"],
    axes: Axes,
    prices: Mapping[str, float],
    powers: Mapping[str, tuple[float, float]],
    rate: float | None,
    limits: Limits,
    budget: Budget,
    runners_up: int,
    seeds: int,
    tolerance: float,
    executor: Executor,
    command: str,
    out: str | None,
    as_json: bool,
) -> None:
    """Search the space, print the ranking, and write the best as a scenario; exit 1 if nothing holds.

    Args:
        file: The scenario: model, load, and what the candidates do not vary.
        overrides: Changes of all of them.
        slo: Terms that must hold.
        axes: Keys and their values, as asked for.
        command: As it was typed; told in the file.
        out: File for the best scenario.
        as_json: Print one JSON object.
        objective, prices, powers, rate, limits, budget, runners_up, seeds, tolerance, executor: As of
            `simserve.study.recommend.recommend`; the executor is closed at the end.

    Raises:
        InputError: If something of this is wrong.
    """
    from simserve.cli.best_scenario import write_best
    from simserve.cli.capacity import check_attainment
    from simserve.scenario.loader import load_scenario
    from simserve.study.candidates import build_candidates
    from simserve.study.load import load_of
    from simserve.study.probe import natural_rate
    from simserve.study.recommend import check_figures, recommend
    from simserve.study.slo_terms import parse_slo

    if out is not None and Path(out).is_dir():
        raise InputError("is a folder; expected the file to write", file=out)
    line = CountLine("probes", quiet=as_json)

    def tell(candidate: Candidate, sizes: tuple[int, ...], seed: int, probe: Probe) -> None:
        line.wipe()
        rate = format_number(probe.rate_per_s)
        place = f"{_settings(candidate.settings)} x {_sizes(sizes)} at {rate} requests/s"
        if seeds > 1:
            place += f", seed {seed}"
        print(f"  {place}: {probe.verdict}", flush=True)

    try:
        terms = parse_slo(slo)
        base = load_scenario(file, overrides)
        check_attainment(slo, base, file)
        workload = load_of(base)
        space = fill_space(axes, prices, base)
        candidates = list(build_candidates(file, overrides, space, prices))
        check_figures(candidates, objective, powers)  # before anything is printed
        if not as_json:
            print(f"space: {describe_space(space)}", flush=True)
        found = recommend(
            candidates, workload, terms,
            objective=objective, rate_per_s=rate, limits=limits, budget=budget, powers=powers,
            executor=executor, tolerance=tolerance, runners_up=runners_up, seeds=seeds,
            tried=None if as_json else tell, progress=line,
        )  # fmt: skip
    finally:
        line.wipe()
        executor.close()
    if as_json:
        print(json.dumps(_as_dict(found, terms[0].key, space), indent=2))
    else:
        _print_found(found, terms[0].key)
    if found.best is not None:
        changes = [*overrides, *_changes(found.best, base, found.best.rate_per_s / natural_rate(workload))]
        if out is not None:
            place = f"{_settings(found.best.settings)} x {_sizes(found.best.sizes)}"
            written = [*changes, *_judged_part(found.best)]
            name = f"{base.name or Path(file).stem}: {place}"
            write_best(file, written, terms, name, command, out)
        if not as_json:
            _print_next(file, changes, out, slo, range(base.seed, base.seed + seeds))
    warn_if_unsure(option.doubt for option in found.options)
    if found.stopped:
        so_far = "this is the best so far" if found.best else "nothing was found by then"
        print(f"simserve: {found.stopped}; {so_far}", file=sys.stderr)
    if found.best is None or found.stopped == "interrupted":
        raise SystemExit(SimserveError.exit_status)


def _print_next(file: str, changes: list[str], out: str | None, slo: str, seeds: range) -> None:
    """Print how the best is run, how surely it holds, and how its room is found."""
    best = out or shlex.join([file, *(word for text in changes for word in ("--set", text))])
    if out is None:
        print(f"run it: simserve run {best}")
    drawn = f"seed {seeds[0]} alone" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    print(f"sized with {drawn}; its room: simserve capacity {best} --slo {shlex.quote(slo)} --seeds 5")


def _print_found(found: Recommendation, key: str) -> None:
    from simserve.study.options import OBJECTIVES

    held = [option for option in found.options if option.holds]
    if not held:
        print("nothing found yet" if found.stopped else "nothing holds")
    else:
        headers = ["configuration", "instances", "GPUs", "USD/h"]
        extra = found.objective in ("throughput_per_gpu", "energy")
        headers += [OBJECTIVES[found.objective]] if extra else []
        rows = [
            [
                _settings(option.settings), _sizes(option.sizes), str(option.gpus),
                format_number(option.usd_per_hour),
                *([format_number(option.value(found.objective))] if extra else []),
                format_number((option.figures or {}).get(key)), _what_binds(option, found.objective),
            ]
            for option in held[:_MOST_ROWS]
        ]  # fmt: skip
        beyond = "a higher rate breaks" if found.objective == "throughput_per_gpu" else "one fewer breaks"
        print_table((*headers, key, beyond), rows)
        front = "; ".join(_settings(option.settings) for option in found.pareto(key))
        print(f"Pareto front of {found.objective} and {key}, of what was simulated: {front}")
        if held[0].bottleneck:
            print(f"bottleneck of the best: {held[0].bottleneck}")
    out = [each for each in found.options if not each.holds]
    for option in out[:_MOST_ROWS]:
        print(f"out: {_settings(option.settings)}: {option.verdict}")
    if len(out) > _MOST_ROWS:
        print(f"... and {len(out) - _MOST_ROWS:,} more are out")


def _what_binds(option: Option, objective: str) -> str:
    if option.unfinished:
        return f"not finished: {'more' if objective == 'throughput_per_gpu' else 'fewer'} may do"
    return ", ".join(option.binds) or "-"


def _changes(best: Option, base: Scenario, factor: float) -> list[str]:
    """Return what makes the scenario the best option, under the load that was asked for."""
    from simserve.study.points import write_value

    changes = [f"{key}={write_value(value)}" for key, value in best.settings.items()]
    changes += [f"pools.{pool}.replicas={size}" for pool, size in enumerate(best.sizes)]
    if abs(factor - 1) < 1e-9:
        return changes
    return [*changes, _faster(base, factor)]


def _judged_part(best: Option) -> list[str]:
    """Return what makes a run of the best count the part of it that was judged."""
    warmup_s, cooldown_s = best.window
    return [f"metrics.warmup_s={warmup_s!r}", f"metrics.cooldown_s={cooldown_s!r}"]


def _faster(base: Scenario, factor: float) -> str:
    """Return the override that makes a scenario's requests come so many times as fast."""
    load = base.workload
    if load.trace is not None:
        return f"workload.trace.rate_scale={load.trace.rate_scale * factor!r}"
    if load.servegen is not None:
        return f"workload.servegen.rate_scale={load.servegen.rate_scale * factor!r}"
    arrivals = load.arrivals
    if arrivals is None or arrivals.rate_per_s is None:
        raise InputError("--rate cannot be written into a scenario whose rate follows a schedule")
    return f"workload.arrivals.rate_per_s={arrivals.rate_per_s * factor!r}"


def _settings(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings.items()) or "as it is"


def _sizes(sizes: tuple[int, ...]) -> str:
    return "+".join(map(str, sizes))


def _as_dict(found: Recommendation, key: str, space: Axes) -> dict[str, Any]:
    def described(option: Option) -> dict[str, Any]:
        return {**asdict(option), "replicas": option.replicas, "value": _value(option, found.objective)}

    return {
        "objective": found.objective,
        "rate_per_s": found.rate_per_s,
        "stopped": found.stopped,
        "space": space,
        "best": described(found.best) if found.best else None,
        "options": [described(option) for option in found.options],
        "pareto": [dict(option.settings) for option in found.pareto(key)],
    }


def _value(option: Option, objective: str) -> float | None:
    return option.value(objective) if option.holds else None
