"""Steps are seen one by one in a busy server, and not at all in an idle one."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.study.step_fit import fit_steps
from simserve.study.step_gaps import see_steps
from simserve.study.validate import validate_run
from tests.study.conftest import WriteRun

LINEAR = {"kind": "linear", "base_s": 0.02, "per_prefill_token_s": 50e-6}


def test_steps_of_a_busy_server(write_run: WriteRun) -> None:
    draw = np.random.default_rng(2)
    outputs = draw.integers(10, 60, 2000).tolist()
    rows = [(index * 0.01, 200, output, "", 0.1, 9.0) for index, output in enumerate(outputs)]
    folder = write_run(rows, max_num_seqs="48", num_gpu_blocks="20000", client_max_concurrency="48")
    run = validate_run(folder, LINEAR)
    seen = {each.new_prompts: each for each in run.seen_steps()["simulated"]}
    assert seen[0].median_s == pytest.approx(0.02, rel=0.01)
    assert seen[1].median_s == pytest.approx(0.03, rel=0.01)
    assert seen[2].median_s == pytest.approx(0.04, rel=0.01)
    assert 40 < seen[1].mean_batch < 48
    # What was "measured" here is made up: all requests take the same time, so hardly any step is seen.
    assert run.as_dict()["seen_steps"]["simulated"][0]["new_prompts"] == 0


def test_an_idle_server_shows_none(write_run: WriteRun) -> None:
    draw = np.random.default_rng(4)
    due = np.sort(draw.uniform(0, 100, 200)).tolist()
    rows = [(float(time), 100, int(draw.integers(50, 90)), "", 0.1, 1.0) for time in due]
    run = validate_run(write_run(rows), LINEAR)
    side = run.served.latencies
    assert fit_steps(side, run.measured.prompt_tokens) is not None
    assert see_steps(side, fit_steps(side, run.measured.prompt_tokens)) == []
    assert see_steps(side, None) == []
