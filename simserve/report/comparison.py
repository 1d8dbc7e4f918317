"""Two runs side by side, with relative differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simserve.report.table import format_number, print_table


def relative_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, float | None]:
    """Return `(second - first) / first` of every number in both summaries, None where `first` has 0."""
    differences: dict[str, float | None] = {}
    for key, before in first.items():
        after = second.get(key)
        if _is_number(before) and _is_number(after) and key != "seed":
            differences[key] = (after - before) / before if before else None
    return differences


def print_comparison(names: tuple[str, str], first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Print two summaries side by side, a row a figure that either of them has."""
    differences = relative_differences(first, second)
    rows = []
    for key in first:
        values = first[key], second.get(key)
        if any(_is_number(value) for value in values) and key != "seed":
            rows.append([key, *map(format_number, values), _change(values, differences.get(key))])
    print_table(("", *names, "difference"), rows)
    for name, summary in zip(names, (first, second), strict=True):
        print(f"{name}: {summary['bottleneck']}")


def _change(values: tuple[Any, Any], difference: float | None) -> str:
    if values[0] == values[1]:
        return "="
    return "-" if difference is None else f"{difference:+.1%}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
