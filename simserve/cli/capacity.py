"""`simserve capacity`: the highest rate at which a scenario keeps its objectives."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from simserve.errors import InputError, SimserveError

if TYPE_CHECKING:
    from simserve.scenario.schema import Scenario
    from simserve.study.capacity import Capacity, Probe


def print_capacity(
    file: str, overrides: list[str], slo: str, *, tolerance: float, seeds: int, as_json: bool
) -> None:
    """Search each seed's capacity, print every probe and the interval; exit 1 if no rate holds.

    Raises:
        InputError: If the scenario or the objective is wrong, or there is nothing to stretch.
    """
    from simserve.scenario.loader import load_scenario
    from simserve.study.slo_terms import parse_slo

    terms = parse_slo(slo)
    first = load_scenario(file, overrides)
    if any(term.key == "slo_attainment" for term in terms) and not _has_slo(first):
        raise InputError("--slo slo_attainment needs the scenario's slo section", file=file)
    from simserve.data_files import find_file
    from simserve.scenario.workload_build import build_workload
    from simserve.study.capacity import find_capacity

    found: list[Capacity] = []
    try:
        for seed in range(first.seed, first.seed + seeds):
            scenario = load_scenario(file, [*overrides, f"seed={seed}"])
            finder = partial(find_file, beside=scenario.folder)
            workload = build_workload(scenario.workload, seed=seed, find_file=finder)
            tried = None if as_json else _print_probe
            if seeds > 1 and not as_json:
                print(f"seed {seed}")
            found.append(find_capacity(scenario, workload, terms, tolerance=tolerance, tried=tried))
    except KeyboardInterrupt:
        print("simserve: stopped; the rates above are what was tried", file=sys.stderr)
        raise SystemExit(SimserveError.exit_status) from None
    if as_json:
        print(json.dumps(_as_dict(found, slo, tolerance), indent=2))
    else:
        _print_found(found, Path(file).name, tolerance)
    if not all(each.rate_per_s for each in found):
        raise SystemExit(SimserveError.exit_status)


def _has_slo(scenario: Scenario) -> bool:
    slo = scenario.slo
    return bool(slo.classes) or any(getattr(slo, name) is not None for name in ("ttft_s", "tpot_s", "e2el_s"))


def _print_probe(probe: Probe) -> None:
    figures = ", ".join(
        f"{key} {'-' if value is None else format(value, ',.4g')}" for key, value in probe.figures.items()
    )
    verdict = "holds" if probe.holds else "the queue grows" if not probe.steady else "does not hold"
    print(f"  {probe.rate_per_s:>10,.4g} requests/s  {verdict:<16} {figures}", flush=True)


def _print_found(found: list[Capacity], name: str, tolerance: float) -> None:
    rates = [each.rate_per_s for each in found]
    if not all(rates):
        print(f"{name}: no rate holds; the lowest tried is {found[-1].probes[-1].rate_per_s:.3g} requests/s")
        return
    mean = sum(rates) / len(rates)
    spread = f" ± {_half_width(rates):,.3g} (95 %, {len(rates)} seeds)" if len(rates) > 1 else ""
    open_end = all(each.fails_at_per_s is None for each in found)
    note = "at least, since no rate failed" if open_end else f"within {tolerance:.1%}"
    print(f"{name} holds {mean:,.4g} requests/s{spread}, {note}")
    if len(rates) > 1 and len(set(rates)) == 1:
        print("every seed gave the same: nothing in this scenario is drawn at random")


def _half_width(rates: list[float]) -> float:
    from simserve.report.intervals import intervals

    return intervals([{"rate": rate} for rate in rates])["rate"].half_width


def _as_dict(found: list[Capacity], slo: str, tolerance: float) -> dict[str, object]:
    rates = [each.rate_per_s for each in found]
    return {
        "slo": slo,
        "tolerance": tolerance,
        "rate_per_s": sum(rates) / len(rates),
        "half_width_per_s": _half_width(rates) if len(rates) > 1 else None,
        "searches": [each.as_dict() for each in found],
    }
