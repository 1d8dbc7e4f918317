"""Service-level objectives as text: `ttft_p90<=1s, tpot_p99<=50ms, slo_attainment>=0.95`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simserve.errors import InputError, nearest
from simserve.units import parse_seconds

_METRICS = ("ttft", "tpot", "itl", "e2el")
# As written, and as the summary's keys have it.
_STATISTICS = {"mean": "mean", "p50": "median", "median": "median", "p90": "p90", "p95": "p95", "p99": "p99"}
_SHARES = ("slo_attainment",)
# As one writes it (`ttft_p90`), and as a summary has it (`p90_ttft_ms`).
_KEYS = {
    name: f"{kept}_{metric}_ms"
    for metric in _METRICS
    for statistic, kept in _STATISTICS.items()
    for name in (f"{metric}_{statistic}", f"{statistic}_{metric}_ms")
}
_BARE = re.compile(r"[+-]?[\d.]+(?:[eE][+-]?\d+)?")
_TERM = re.compile(r"\s*([a-z0-9_]+)\s*(<=|>=|<|>|=)\s*(\S.*?)\s*")


@dataclass(frozen=True, slots=True)
class SloTerm:
    """One bound on a figure of a summary.

    Attributes:
        text: As it was written.
        key: Of the summary.
        bound: In the summary's unit (ms, or a share).
        at_most: Whether the figure may not exceed the bound; else it may not fall below it.
    """

    text: str
    key: str
    bound: float
    at_most: bool

    def holds(self, summary: Mapping[str, Any]) -> bool:
        """Whether a summary's figure keeps the bound; one that does not exist keeps none."""
        value = summary[self.key]
        if value is None:
            return False
        return bool(value <= self.bound if self.at_most else value >= self.bound)


def parse_slo(text: str) -> tuple[SloTerm, ...]:
    """Read an objective: terms separated by commas, all of which must hold.

    Raises:
        InputError: If a term is none; names the nearest valid figure.
    """
    terms = tuple(_parse_term(part) for part in text.split(",") if part.strip())
    if not terms:
        raise InputError("--slo: expected terms such as 'ttft_p90<=1s, tpot_p99<=50ms'")
    return terms


def _parse_term(part: str) -> SloTerm:
    match = _TERM.fullmatch(part)
    if match is None:
        raise InputError(f"--slo: {part.strip()!r} is no term; expected one such as 'ttft_p90<=1s'")
    name, sign, value = match.groups()
    if name in _SHARES:
        if sign not in (">=", ">"):
            raise InputError(f"--slo: {name} is a share to be reached; expected {name}>=0.95")
        return SloTerm(part.strip(), name, _share(value), at_most=False)
    if name not in _KEYS:
        first, _, second = name.partition("_")
        # The parts the other way round are meant as often as a misspelt one.
        swapped = f"{second}_{first}"
        known = swapped if swapped in _KEYS else name
        raise InputError(f"--slo: unknown figure {name!r}{nearest(known, [*_KEYS, *_SHARES])}")
    if sign not in ("<=", "<"):
        raise InputError(f"--slo: {name} is a latency to be kept; expected {name}<={value}")
    return SloTerm(part.strip(), _KEYS[name], _milliseconds(name, value), at_most=True)


def _milliseconds(name: str, value: str) -> float:
    """Return a bound on a latency; one without a unit is refused, unless the name has it."""
    if not _BARE.fullmatch(value):
        return parse_seconds(value) * 1e3
    if name.endswith("_ms"):
        return parse_seconds(f"{value} ms") * 1e3
    raise InputError(f"--slo: {name}<={value}: {value} of what? Write {value}ms or {value}s")


def _share(value: str) -> float:
    try:
        share = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(f"--slo: expected a share from 0 to 1, or in %, got {value!r}")
    return share
