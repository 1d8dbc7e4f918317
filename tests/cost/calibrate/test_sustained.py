"""The rate that long GEMMs keep: how it is read off tables, and that serving is capped by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from simserve.cost.build import CostSpec, build_timers
from simserve.cost.calibrate.accelerator_fit import RowGroup
from simserve.cost.calibrate.families import family_named
from simserve.cost.calibrate.sustained import SustainedRates
from simserve.cost.calibration_file import read_sustained
from simserve.cost.timer import Chunk
from simserve.errors import InputError
from simserve.scenario.catalog import load_calibration, load_generic_calibration, load_hardware, load_model


def group(
    framework: str, rate: float, seconds: float = 4e-3, rows: int = 12, dtype: str = "bfloat16"
) -> RowGroup:
    n = k = 8192.0
    m = rate * seconds / (2 * n * k)
    table = pd.DataFrame({"m": np.full(rows, m), "n": n, "k": k, "seconds": seconds})
    return RowGroup(family_named("gemm"), load_hardware("h100-sxm"), framework, dtype, "", "", table)


def test_the_rate_is_the_lower_quartile_over_frameworks() -> None:
    rates = SustainedRates()
    for framework, rate in (("vllm", 8e14), ("trtllm", 7e14), ("sglang", 7.2e14)):
        rates.add(group(framework, rate))
    rates.add(group("sarathi", 6.9e14, dtype="float16"))
    rates.add(group("short", 1e14, seconds=1e-3))
    rates.add(group("few", 1e14, rows=3))
    assert rates.of("h100-sxm") == {"bfloat16": pytest.approx(6.975e14)}
    assert rates.of("a100-sxm-80gb") == {}


def test_serving_keeps_to_the_rate_where_it_computes_and_not_where_it_reads() -> None:
    accelerator, shape = load_hardware("h100-sxm"), load_model("qwen3-14b")
    shipped: dict[str, Any] = dict(load_calibration(accelerator) or {})
    free = {key: value for key, value in shipped.items() if key != "sustained_flops_per_s"}
    slow = {**free, "sustained_flops_per_s": {"bfloat16": 3e14}}
    capped, uncapped = (
        build_timers(CostSpec(), shape, accelerator, calibration=content, generic=load_generic_calibration())[
            0
        ]
        for content in (slow, free)
    )
    rows = {row.operator: row for row in capped.explain(0, 0, 0, [Chunk(4000, 0)], 1)}
    assert rows["mlp_up"].flops / rows["mlp_up"].seconds == pytest.approx(3e14, rel=0.01)
    assert capped.decode_ns(4, 4000, 0, 1) == uncapped.decode_ns(4, 4000, 0, 1)
    assert capped.batch_ns(0, 0, 0, [Chunk(4000, 0)], 1) > uncapped.batch_ns(0, 0, 0, [Chunk(4000, 0)], 1)


def test_a_rate_must_be_above_zero() -> None:
    with pytest.raises(InputError, match=r"sustained_flops_per_s\.fp8"):
        read_sustained({"sustained_flops_per_s": {"fp8": 0.0}})


def test_the_shipped_rates_are_below_the_datasheets() -> None:
    for name in ("a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm", "gb200", "l40s", "rtx-pro-6000-server"):
        accelerator = load_hardware(name)
        rates = read_sustained(load_calibration(accelerator) or {})
        assert 0.45 < rates["bfloat16"] / accelerator.peak_for("bfloat16") < 0.95, name
