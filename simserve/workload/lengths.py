"""Distributions of lengths in whole tokens, each at least 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from simserve.workload.workload import IntColumn


class Lengths(Protocol):
    """A distribution of lengths."""

    def draw(self, rng: np.random.Generator, count: int) -> IntColumn:
        """Return `count` lengths, shape (count,), each at least 1."""


@dataclass(frozen=True)
class Constant:
    """Always the same length."""

    value: int

    def draw(self, rng: np.random.Generator, count: int) -> IntColumn:
        """Return `count` times the value."""
        return np.full(count, self.value, dtype=np.int64)


@dataclass(frozen=True)
class Uniform:
    """Every whole length from `low` to `high`, both included, alike."""

    low: int
    high: int

    def draw(self, rng: np.random.Generator, count: int) -> IntColumn:
        """Return `count` lengths."""
        return rng.integers(self.low, self.high + 1, count, dtype=np.int64)


@dataclass(frozen=True)
class LogNormal:
    """exp of a normal variable, rounded; draws outside low ... high become low or high."""

    median: float
    sigma: float
    low: int = 1
    high: int | None = None

    @staticmethod
    def of(
        mean: float | None,
        median: float | None,
        sigma: float | None,
        cv: float | None,
        low: int,
        high: int | None,
    ) -> LogNormal:
        """Return the one with a mean or median and a sigma or coefficient of variation, before clipping."""
        if sigma is None:
            assert cv is not None
            sigma = math.sqrt(math.log1p(cv * cv))
        if median is None:
            assert mean is not None
            median = mean * math.exp(-sigma * sigma / 2)
        return LogNormal(median, sigma, low, high)

    def draw(self, rng: np.random.Generator, count: int) -> IntColumn:
        """Return `count` lengths."""
        values = self.median * np.exp(self.sigma * rng.standard_normal(count))
        return _to_lengths(values, self.low, self.high)


@dataclass(frozen=True)
class Quantiles:
    """An empirical distribution: lengths at probabilities from 0 to 1, interpolated linearly, rounded."""

    probabilities: tuple[float, ...]
    values: tuple[float, ...]
    low: int = 1
    high: int | None = None

    def draw(self, rng: np.random.Generator, count: int) -> IntColumn:
        """Return `count` lengths."""
        return _to_lengths(np.interp(rng.random(count), self.probabilities, self.values), self.low, self.high)


def _to_lengths(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], low: int, high: int | None
) -> IntColumn:
    # Far above any length, and exact as a float: what a wild sigma draws must not overflow.
    bounded = np.clip(values, max(low, 1), 2**40 if high is None else high)
    result: IntColumn = np.rint(bounded).astype(np.int64)
    return result
