"""The CUDA clock against a stand-in for torch: what it records, flushes and divides by."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tools.profile_gpu.clock import FLUSH_FACTOR, LAUNCHES_A_GRAPH, CudaClock

L2_BYTES = 50 * 2**20
LAUNCH_MS = 0.125


class Gpu:
    """Counts what is run on it; its time passes by launches alone, and by flushes."""

    def __init__(self, *, captures: bool = True) -> None:
        self.now_ms = 0.0
        self.log: list[str] = []
        self.captures = captures
        self.capturing = False
        self.captured = 0

    def launch(self) -> None:
        if self.capturing:
            self.captured += 1
        else:
            self.log.append("launch")
            self.now_ms += LAUNCH_MS

    def torch(self) -> Any:
        gpu = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at_ms = gpu.now_ms

            def elapsed_time(self, end: Event) -> float:
                return end.at_ms - self.at_ms

        class Graph:
            def replay(self) -> None:
                gpu.log.append("replay")
                gpu.now_ms += gpu.captured * LAUNCH_MS

        @contextmanager
        def graph(_: Graph) -> Any:
            if not gpu.captures:
                raise RuntimeError("operation not permitted when stream is capturing")
            gpu.capturing = True
            yield
            gpu.capturing = False

        class Buffer:
            def zero_(self) -> None:
                gpu.log.append("flush")
                gpu.now_ms += 1.0

        def empty(size: int, **_: Any) -> Buffer:
            assert size == FLUSH_FACTOR * L2_BYTES
            return Buffer()

        cuda = SimpleNamespace(
            Event=Event, CUDAGraph=Graph, graph=graph, synchronize=lambda: None, current_device=lambda: 0,
            get_device_properties=lambda device: SimpleNamespace(L2_cache_size=L2_BYTES),
        )  # fmt: skip
        return SimpleNamespace(cuda=cuda, empty=empty, uint8="uint8")


def test_cold_launches_are_timed_without_the_flush_before_each() -> None:
    gpu = Gpu()
    times = CudaClock(gpu.torch(), cold=True).times_s(gpu.launch, 3)
    assert times == pytest.approx([LAUNCH_MS * 1e-3] * 3)
    assert gpu.log == ["flush", "launch"] * 3


def test_warm_launches_run_in_a_graph_and_their_time_is_shared() -> None:
    gpu = Gpu()
    times = CudaClock(gpu.torch(), cold=False).times_s(gpu.launch, 4)
    assert gpu.captured == LAUNCHES_A_GRAPH
    assert gpu.log == ["replay"] * 4
    assert times == pytest.approx([LAUNCH_MS * 1e-3] * 4)


def test_what_cannot_be_captured_is_launched_by_itself() -> None:
    gpu = Gpu(captures=False)
    times = CudaClock(gpu.torch(), cold=False).times_s(gpu.launch, 2)
    assert gpu.log == ["launch"] * 2
    assert times == pytest.approx([LAUNCH_MS * 1e-3] * 2)
