"""`simserve recommend`: the cheapest configuration that serves a load within its objectives."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.errors import InputError, SimserveError

if TYPE_CHECKING:
    from simserve.study.candidates import Candidate
    from simserve.study.capacity import Probe
    from simserve.study.recommend import Option, Recommendation

_MOST_ROWS = 20


def print_recommendation(
    file: str,
    overrides: list[str],
    slo: str,
    *,
    axes: Mapping[str, Sequence[Any]],
    prices: Sequence[str],
    objective: str,
    rate: float | None,
    most_gpus: int,
    out: str | None,
    as_json: bool,
) -> None:
    """Search the space, print the ranking, and write the best as a scenario; exit 1 if nothing holds.

    Args:
        file: The scenario: model, load, and what the candidates do not vary.
        overrides: Changes of all of them.
        slo: Terms that must hold.
        axes: Keys below the pool and their values; those of the scenario where there are none.
        prices: `NAME=USD` an hour.
        objective: "cost" or "gpus".
        rate: Requests a second; None: the scenario's own.
        most_gpus: No option may have more.
        out: File for the best scenario.
        as_json: Print one JSON object.

    Raises:
        InputError: If something of this is wrong.
    """
    from simserve.data_files import find_file
    from simserve.scenario.loader import load_scenario
    from simserve.scenario.workload_build import build_workload
    from simserve.study.candidates import build_candidates
    from simserve.study.recommend import recommend
    from simserve.study.slo_terms import parse_slo

    terms = parse_slo(slo)
    base = load_scenario(file, overrides)
    if len(base.pools) != 1:
        raise InputError(f"has {len(base.pools)} pools; expected one, whose hardware is chosen", file=file)
    finder = partial(find_file, beside=base.folder)
    workload = build_workload(base.workload, seed=base.seed, find_file=finder)
    candidates = list(build_candidates(file, overrides, axes, _read_prices(prices)))
    found = recommend(
        candidates, workload, terms, objective=objective, rate_per_s=rate, most_gpus=most_gpus,
        tried=None if as_json else _print_probe,
    )  # fmt: skip
    if as_json:
        print(json.dumps(_as_dict(found, terms[0].key), indent=2))
    else:
        _print_found(found, terms[0].key)
    best = found.best
    if best is not None and out is not None:
        _write_best(best, file, overrides, out)
    if found.stopped:
        print("simserve: stopped; this is the best so far", file=sys.stderr)
    if best is None or found.stopped:
        raise SystemExit(SimserveError.exit_status)


def read_axes(hardware: str | None, ranks: str | None, others: Sequence[str]) -> dict[str, list[Any]]:
    """Return the space: keys below the pool and their values.

    Raises:
        InputError: If an axis has no values, or stands twice.
    """
    texts = list(others)
    if ranks is not None:
        texts.insert(0, f"engine.tensor_parallel_size={ranks}")
    if hardware is not None:
        texts.insert(0, f"hardware={hardware}")
    axes: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = (part.strip() for part in text.partition("="))
        found = [_read_value(part.strip()) for part in values.split(",") if part.strip()]
        if not equals or not key or not found:
            raise InputError(f"--axis {text}: expected KEY=A,B,..., such as engine.max_num_seqs=64,256")
        if key in axes:
            raise InputError(f"--axis {text}: {key} stands twice")
        axes[key] = found
    return axes


def _read_value(text: str) -> Any:
    from simserve.scenario.yaml_text import read_scalar

    return read_scalar(text)


def _read_prices(prices: Sequence[str]) -> dict[str, float]:
    from simserve.scenario.catalog import load_hardware

    found = {}
    for text in prices:
        name, equals, value = text.partition("=")
        try:
            usd = float(value)
        except ValueError:
            usd = -1.0
        if not equals or not 0 <= usd < float("inf"):
            raise InputError(f"--price {text}: expected NAME=USD an hour, such as h100-sxm=2.5")
        found[load_hardware(name.strip()).name] = usd
    return found


def _print_probe(candidate: Candidate, replicas: int, probe: Probe) -> None:
    verdict = "holds" if probe.holds else "the queue grows" if not probe.steady else "does not hold"
    print(f"  {_settings(candidate.settings)}, {replicas} instances: {verdict}", flush=True)


def _print_found(found: Recommendation, key: str) -> None:
    from simserve.report.table import format_number, print_table

    rows = [
        [
            _settings(option.settings), str(option.replicas), str(option.gpus),
            format_number(option.usd_per_hour), format_number((option.figures or {}).get(key)),
            ", ".join(option.binds) or "-",
        ]
        for option in found.options if option.replicas
    ]  # fmt: skip
    if not rows:
        print("nothing holds")
    else:
        print_table(
            ("configuration", "instances", "GPUs", "USD/h", key, "one fewer breaks"), rows[:_MOST_ROWS]
        )
        front = ", ".join(_settings(option.settings) for option in found.pareto(key))
        print(f"Pareto front of {found.objective} and {key}: {front}")
    for option in [each for each in found.options if not each.replicas][:_MOST_ROWS]:
        print(f"out: {_settings(option.settings)}: {option.verdict}")


def _write_best(best: Option, file: str, overrides: list[str], out: str) -> None:
    from simserve.scenario.dump import dump_scenario
    from simserve.scenario.loader import load_scenario
    from simserve.study.points import write_value

    changes = [f"{key}={write_value(value)}" for key, value in best.settings.items()]
    scenario = load_scenario(file, [*overrides, *changes, f"pools.0.replicas={best.replicas}"])
    try:
        Path(out).write_text(dump_scenario(scenario), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=out) from error
    print(f"the best as a scenario: {out}", file=sys.stderr)


def _settings(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings.items())


def _as_dict(found: Recommendation, key: str) -> dict[str, Any]:
    return {
        "objective": found.objective,
        "rate_per_s": found.rate_per_s,
        "stopped": found.stopped,
        "best": asdict(found.best) if found.best else None,
        "options": [asdict(option) for option in found.options],
        "pareto": [dict(option.settings) for option in found.pareto(key)],
    }
