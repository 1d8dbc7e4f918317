"""Ctrl-C at any moment of a run leaves a record that adds up."""

from __future__ import annotations

import random
import signal
import sys
from types import FrameType
from typing import Any

import pytest

from simserve import load_scenario, simulate
from simserve.cluster.cluster import Cluster
from tests.properties.seeds import seed_groups

INTERRUPTS = 30


def interrupt_after(lines: int) -> Any:
    """Return a trace function that sends SIGINT when so many lines of simserve have run."""
    left = lines

    def count(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return count

    def enter(frame: FrameType, event: str, _: object) -> Any:
        return count if "simserve" in frame.f_code.co_filename else None

    return enter


@pytest.mark.parametrize("seed", seed_groups(INTERRUPTS, 1, fast=10))
def test_an_interrupted_run_adds_up(seed: int) -> None:
    def watch(cluster: Cluster) -> None:
        sys.settrace(interrupt_after(random.Random(seed).randint(2_000, 60_000)))

    before = sys.gettrace()
    try:
        result = simulate(load_scenario("kv-pressure" if seed % 2 else "quickstart"), watch=watch)
    finally:
        sys.settrace(before)
    assert result.partial
    ids = list(result.requests.request_id)
    assert len(ids) == len(set(ids))
    summary = result.summary
    assert summary["completed"] + summary["failed"] + summary["unfinished"] == len(ids)
    for log in result.steps:
        assert sum(log.steps) == len(log.end_ns)
        assert list(log.end_ns) == sorted(log.end_ns)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
