"""The unit of the benchmark: the CPU time of one bare SimPy timeout on this machine, now."""

from __future__ import annotations

import time
from collections.abc import Generator
from statistics import median

import simpy

PROCESSES = 1_000
ROUNDS = 200


def measure_timeout_us(repeats: int = 3) -> float:
    """Return the CPU microseconds of one `timeout(1)`, the median of `repeats` measurements."""
    return median(_measure_once() for _ in range(repeats))


def _measure_once() -> float:
    env = simpy.Environment()

    def loop() -> Generator[simpy.Event, None, None]:
        while True:
            yield env.timeout(1)

    for _ in range(PROCESSES):
        env.process(loop())
    env.run(until=1)
    started = time.process_time()
    env.run(until=ROUNDS + 1)
    return (time.process_time() - started) / (PROCESSES * ROUNDS) * 1e6
