"""Two runs side by side: in what their scenarios differ, then their figures with relative differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simserve.report.summary_text import AT_ONCE, tokens_at_once
from simserve.report.table import format_number, print_table

# A scenario's keys that say which requests come; the seed draws them.
_WORKLOAD = ("workload.", "seed")
# From so many times on, a difference is told as a factor and not in percent.
_LEAST_FACTOR = 10
_LIMITS = ("max_num_seqs", "max_num_batched_tokens")


@dataclass(frozen=True, slots=True)
class RunSide:
    """One of two runs that are compared.

    Attributes:
        name: What it is called in the tables.
        summary: Its summary.
        scenario: Its resolved scenario, in the long form.
    """

    name: str
    summary: Mapping[str, Any]
    scenario: Mapping[str, Any]


def relative_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, float | None]:
    """Return `(second - first) / first` of every number in both summaries, None where `first` has 0."""
    differences: dict[str, float | None] = {}
    for key, before in first.items():
        after = second.get(key)
        if _is_number(before) and _is_number(after) and key != "seed":
            differences[key] = (after - before) / before if before else None
    return differences


def differing_settings(scenarios: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of all scenarios by dotted key where they are not equal, None where one has none."""
    leaves = [flatten(scenario) for scenario in scenarios]
    keys = dict.fromkeys(key for each in leaves for key in each)
    values = {key: [each.get(key) for each in leaves] for key in keys}
    return {key: each for key, each in values.items() if len({repr(value) for value in each}) > 1}


def flatten(data: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings and lists by dotted key; a list of plain values is a leaf."""
    if isinstance(data, Mapping):
        parts = [(str(key), value) for key, value in data.items()]
    elif isinstance(data, list) and any(isinstance(each, Mapping | list) for each in data):
        parts = [(str(number), value) for number, value in enumerate(data)]
    else:
        return {path: data}
    leaves: dict[str, Any] = {}
    for key, value in parts:
        leaves |= flatten(value, f"{path}.{key}" if path else key)
    return leaves


def compare_settings(first: RunSide, second: RunSide) -> dict[str, list[Any]]:
    """Return the settings in which two runs differ, names aside, with limits that the scenario leaves open.

    A pool's `max_num_seqs` and `max_num_batched_tokens` follow from the engine and the GPU where they are
    not set: two runs can differ in them without a word of it in their scenarios.
    """
    settings = differing_settings([first.scenario, second.scenario])
    settings.pop("name", None)
    for index, pools in enumerate(zip(first.summary["pools"], second.summary["pools"], strict=False)):
        for key in _LIMITS:
            values = [pool.get(key) for pool in pools]
            if values[0] != values[1]:
                settings[f"pools.{index}.engine.{key}"] = values
    return settings


def print_comparison(first: RunSide, second: RunSide) -> None:
    """Print what differs between two runs, then their summaries: a row a figure that either of them has."""
    _print_settings(first, second)
    sides = (first, second)
    differences = relative_differences(first.summary, second.summary)
    rows = []
    for key in first.summary:
        values = [_observed(side.summary, key) for side in sides]
        if any(_is_number(value) for value in values) and key != "seed":
            rows.append([key, *map(format_number, values), _change(values, differences.get(key))])
    print_table(("", first.name, second.name, "difference"), rows)
    for side in sides:
        if tokens_at_once(side.summary):
            print(f"{side.name}: {AT_ONCE}")
    for side in sides:
        print(f"{side.name}: {side.summary['bottleneck']}")


def _print_settings(first: RunSide, second: RunSide) -> None:
    settings = compare_settings(first, second)
    if not settings:
        print("the scenarios do not differ\n")
        return
    rows = [
        [key, *("-" if each is None else str(each) for each in values)] for key, values in settings.items()
    ]
    print_table(("differ in", first.name, second.name), rows)
    if any(key.startswith(_WORKLOAD) for key in settings):
        print(
            "warning: the workloads differ, so that a difference in the figures may come from the requests, "
            "not from what serves them"
        )
    print()


def _observed(summary: Mapping[str, Any], key: str) -> Any:
    """Return a figure, None where it is a TPOT of 0 for want of any time between tokens."""
    return None if key.endswith("_tpot_ms") and tokens_at_once(summary) else summary.get(key)


def _change(values: Sequence[Any], difference: float | None) -> str:
    if values[0] == values[1]:
        return "="
    if difference is None or None in values:
        return "-"
    factor = 1 + difference
    return f"x{format_number(factor)}" if factor >= _LEAST_FACTOR else f"{difference:+.1%}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
