"""`simserve capacity`: the highest rate at which a scenario keeps its objectives."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from simserve.cli.executor_options import CountLine, warn_if_unsure
from simserve.errors import InputError, SimserveError
from simserve.report.table import format_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from simserve.scenario.schema import Scenario
    from simserve.study.capacity import Capacity
    from simserve.study.executor import Executor
    from simserve.study.probe import Probe
    from simserve.study.slo_terms import SloTerm


def print_capacity(
    file: str,
    overrides: list[str],
    slo: str,
    *,
    tolerance: float,
    seeds: int,
    executor: Executor,
    as_json: bool,
) -> None:
    """Search each seed's capacity and print every probe; exit 1 if no rate holds, or it was stopped.

    Args:
        file: The scenario.
        overrides: Changes of it.
        slo: Terms that must hold.
        tolerance: How far above the result a rate that fails may be.
        seeds: Searches, one a seed.
        executor: Where probes run; closed at the end.
        as_json: Print one JSON object.

    Raises:
        InputError: If the scenario or the objective is wrong, or there is nothing to stretch.
    """
    from simserve.scenario.loader import load_scenario
    from simserve.study.capacity import find_capacities
    from simserve.study.slo_terms import parse_slo

    line = CountLine("probes", quiet=as_json)
    try:
        terms = parse_slo(slo)
        first = load_scenario(file, overrides)
        check_attainment(slo, first, file)
        every = range(first.seed, first.seed + seeds)
        scenarios = [load_scenario(file, [*overrides, f"seed={seed}"]) for seed in every]
        tell = None if as_json else _teller(scenarios, line)
        found = find_capacities(
            scenarios, terms, executor, tolerance=tolerance, tried=tell, progress=line
        )  # fmt: skip
    finally:
        line.wipe()
        executor.close()
    if as_json:
        print(json.dumps(_as_dict(found, slo, tolerance), indent=2))
    elif any(each.stopped for each in found):
        _print_stopped(found, Path(file).name)
    else:
        _print_found(found, Path(file).name, tolerance)
        _print_limits(found, terms)
    warn_if_unsure(probe.doubt for each in found if (probe := each.held) is not None)
    if not all(each.rate_per_s and not each.stopped for each in found):
        raise SystemExit(SimserveError.exit_status)


def check_attainment(slo: str, scenario: Scenario, file: str) -> None:
    """Refuse an attainment of objectives that the scenario does not name.

    Raises:
        InputError: If it names none.
    """
    targets = scenario.slo
    named = any(getattr(targets, name) is not None for name in ("ttft_s", "tpot_s", "e2el_s"))
    if "slo_attainment" in slo and not named and not targets.classes:
        raise InputError("--slo slo_attainment needs the scenario's slo section", file=file)


def _teller(scenarios: list[Scenario], line: CountLine) -> Callable[[int, Probe], None]:
    """Return what prints a probe, after the seed where there are several."""
    begun: list[int] = []

    def tell(number: int, probe: Probe) -> None:
        line.wipe()
        if number not in begun:
            begun.append(number)
            if len(scenarios) > 1:
                print(f"seed {scenarios[number].seed}")
        shown = (
            f"{key} {format_number(value)}"
            for key, value in probe.figures.items()
            if key.endswith("_ms") or key in ("slo_attainment", "output_throughput")
        )
        print(
            f"  {format_number(probe.rate_per_s):>10} requests/s  {probe.verdict:<16} {', '.join(shown)}",
            flush=True,
        )

    return tell


def _print_found(found: tuple[Capacity, ...], name: str, tolerance: float) -> None:
    rates = [each.rate_per_s for each in found]
    if not all(rates):
        lowest = min(probe.rate_per_s for each in found for probe in each.probes)
        print(f"{name}: no rate holds; the lowest tried is {format_number(lowest)} requests/s")
        return
    mean = sum(rates) / len(rates)
    spread = f" ± {format_number(_half_width(rates))} (95 %, {len(rates)} seeds)" if len(rates) > 1 else ""
    if all(each.fails_at_per_s is None for each in found):
        note = "at least, since no rate failed"
    elif any((probe := each.failing) is not None and probe.holds for each in found):
        note = "at least"
    else:
        note = f"within {tolerance:.1%}"
    print(f"{name} holds {format_number(mean)} requests/s{spread}, {note}")
    if len(rates) > 1 and len(set(rates)) == 1:
        print("every seed gave the same: nothing in this scenario is drawn at random")


def _print_limits(found: tuple[Capacity, ...], terms: tuple[SloTerm, ...]) -> None:
    """Print what breaks at the lowest rate of each seed that does not hold, or why that is no rate."""
    failing = [probe for each in found if (probe := each.failing) is not None]
    broken = dict.fromkeys(text for probe in failing for text in probe.broken(terms))
    if broken:
        kept = "; every term of --slo holds there" if list(broken) == ["the queue grows"] else ""
        rate = f" at {format_number(failing[0].rate_per_s)} requests/s" if len(failing) == 1 else ""
        print(f"limited by: {', '.join(broken)}{rate}{kept}")
    unoffered = next((probe.unoffered for probe in failing if probe.holds), "")
    if unoffered:
        print(f"limited by the requests: {unoffered}")


def _print_stopped(found: tuple[Capacity, ...], name: str) -> None:
    """Print what is known of each seed so far."""
    for each in found:
        held = (
            f"holds {format_number(each.rate_per_s)} requests/s"
            if each.rate_per_s
            else "no rate that holds is known"
        )
        high = each.fails_at_per_s
        failed = "no rate that fails is known" if high is None else f"{format_number(high)} fails"
        seed = f" (seed {each.seed})" if len(found) > 1 else ""
        print(f"{name}{seed} so far: {held}; {failed}")
    print("simserve: stopped", file=sys.stderr)


def _half_width(rates: list[float]) -> float:
    from simserve.report.intervals import intervals

    return intervals([{"rate": rate} for rate in rates])["rate"].half_width


def _as_dict(found: tuple[Capacity, ...], slo: str, tolerance: float) -> dict[str, object]:
    rates = [each.rate_per_s for each in found]
    return {
        "slo": slo,
        "tolerance": tolerance,
        "rate_per_s": sum(rates) / len(rates),
        "half_width_per_s": _half_width(rates) if len(rates) > 1 else None,
        "stopped": any(each.stopped for each in found),
        "searches": [each.as_dict() for each in found],
    }
