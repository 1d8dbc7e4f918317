"""The weighted statistics equal numpy's over the values written out one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve.metrics.statistics import describe_ns, describe_weighted_ns

WEIGHTED = st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 40)), min_size=1, max_size=60)


@given(WEIGHTED)
def test_weighted_equals_written_out(pairs: list[tuple[int, int]]) -> None:
    values = np.array([value for value, _ in pairs], dtype=np.int64)
    weights = np.array([weight for _, weight in pairs], dtype=np.int64)
    found = describe_weighted_ns("itl", values, weights)
    written = np.repeat(values, weights) / 1e6
    if not len(written):
        assert set(found.values()) == {None}
        return
    expected = {
        "mean_itl_ms": np.mean(written),
        "median_itl_ms": np.median(written),
        "std_itl_ms": np.std(written),
        "p90_itl_ms": np.percentile(written, 90),
        "p95_itl_ms": np.percentile(written, 95),
        "p99_itl_ms": np.percentile(written, 99),
    }
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("values", [[7_000_000], [0, 0, 5_000_000], [10**6] * 9 + [10**12]])
def test_percentiles_of_few_and_of_skewed_values(values: list[int]) -> None:
    found = describe_ns("ttft", np.array(values, dtype=np.int64))
    assert found["p99_ttft_ms"] == pytest.approx(np.percentile(np.array(values) / 1e6, 99))
    assert found["median_ttft_ms"] == pytest.approx(np.median(np.array(values) / 1e6))


def test_no_values_are_unknown_not_zero() -> None:
    found = describe_ns("ttft", np.empty(0, dtype=np.int64))
    assert list(found) == [f"{key}_ttft_ms" for key in ("mean", "median", "std", "p90", "p95", "p99")]
    assert set(found.values()) == {None}
