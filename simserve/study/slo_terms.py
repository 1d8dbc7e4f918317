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
    metric, _, statistic = name.partition("_")
    if metric not in _METRICS or statistic not in _STATISTICS:
        valid = [f"{each}_{kind}" for each in _METRICS for kind in _STATISTICS] + list(_SHARES)
        raise InputError(f"--slo: unknown figure {name!r}{nearest(name, valid)}")
    if sign not in ("<=", "<"):
        raise InputError(f"--slo: {name} is a latency to be kept; expected {name}<={value}")
    key = f"{_STATISTICS[statistic]}_{metric}_ms"
    return SloTerm(part.strip(), key, parse_seconds(value) * 1e3, at_most=True)


def _share(value: str) -> float:
    try:
        share = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(f"--slo: expected a share from 0 to 1, or in %, got {value!r}")
    return share
