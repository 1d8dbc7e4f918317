"""Constants of a step, recovered from requests whose steps are known."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.study.measured import Latencies
from simserve.study.step_fit import fit_steps
from simserve.study.validate import validate_run
from tests.study.conftest import WriteRun

LINEAR = {"kind": "linear", "base_s": 0.01, "per_decode_s": 0.0005, "per_prefill_token_s": 20e-6}


def test_the_constants_of_a_linear_server(write_run: WriteRun) -> None:
    draw = np.random.default_rng(3)
    due = np.sort(draw.uniform(0, 40, 300)).tolist()
    prompts, outputs = draw.integers(50, 1500, 300).tolist(), draw.integers(40, 120, 300).tolist()
    rows = [
        (float(time), int(prompt), int(output), "", 0.1, 1.0)
        for time, prompt, output in zip(due, prompts, outputs, strict=True)
    ]
    folder = write_run(rows, max_num_seqs="64", num_gpu_blocks="20000")
    run = validate_run(folder, LINEAR)
    fit = run.step_fits()["simulated"]
    assert fit is not None
    assert fit.error_percent < 2.0
    assert fit.base_s + fit.per_sequence_s * fit.mean_batch == pytest.approx(
        0.01 + 0.0005 * fit.mean_batch, rel=0.04
    )
    assert fit.per_sequence_s == pytest.approx(0.0005, rel=0.25)
    assert fit.per_prompt_token_s == pytest.approx(20e-6, rel=0.1)


def test_too_few_requests_tell_nothing() -> None:
    some = np.arange(10, dtype=np.float64)
    side = Latencies(some, some, some * 0 + 0.1, some * 0 + 1, np.full(10, 5))
    assert fit_steps(side, np.full(10, 7)) is None


def test_what_is_always_alike_is_not_fitted() -> None:
    """Requests that are alone: the batch is always 1, so base and sequences cannot be told apart."""
    some = np.arange(100, dtype=np.float64)
    side = Latencies(some, some, np.full(100, 0.1), np.full(100, 0.5), np.full(100, 5))
    assert fit_steps(side, np.full(100, 7)) is None
