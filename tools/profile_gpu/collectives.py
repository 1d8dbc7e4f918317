"""Collectives over NCCL between the GPUs of this machine, a process each."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

Row = Mapping[str, Any]
_WARM_UPS, _REPEATS = 3, 10


def measure_collectives(torch: Any, rows: Sequence[Row], deadline_s: float) -> list[tuple[Row, float]]:
    """Measure the rows of table comm that can be before the deadline; returns them with their seconds.

    Args:
        torch: The module.
        rows: Columns op, num_gpus, bytes, dtype.
        deadline_s: Of `time.monotonic()`.
    """
    found: list[tuple[Row, float]] = []
    for ranks in sorted({int(row["num_gpus"]) for row in rows}):
        mine = [row for row in rows if row["num_gpus"] == ranks]
        queue = torch.multiprocessing.get_context("spawn").SimpleQueue()
        left_s = deadline_s - time.monotonic()
        if left_s > 0:
            address = f"tcp://127.0.0.1:{_free_port()}"
            torch.multiprocessing.spawn(_work, (ranks, address, mine, left_s, queue), nprocs=ranks)
            found += queue.get()
    return found


def _work(rank: int, ranks: int, address: str, rows: Sequence[Row], left_s: float, queue: Any) -> None:
    import torch
    from torch import distributed

    torch.cuda.set_device(rank)
    distributed.init_process_group("nccl", init_method=address, rank=rank, world_size=ranks)
    end_s = time.monotonic() + left_s
    found = []
    for row in rows:
        # All ranks must agree whether there is time for one more.
        go = torch.tensor([float(time.monotonic() < end_s)], device="cuda")
        distributed.broadcast(go, 0)
        if not go.item():
            break
        found.append((row, _measure_s(torch, distributed, rank, ranks, row)))
    if rank == 0:
        queue.put(found)
    distributed.destroy_process_group()


def _measure_s(torch: Any, distributed: Any, rank: int, ranks: int, row: Row) -> float:
    elements = max(ranks, int(row["bytes"]) // 2)
    elements -= elements % ranks
    whole = torch.zeros(elements, dtype=torch.bfloat16, device="cuda")
    other = torch.zeros_like(whole)
    share = torch.zeros(elements // ranks, dtype=torch.bfloat16, device="cuda")
    launches: dict[str, Callable[[], Any]] = {
        "all_reduce": lambda: distributed.all_reduce(whole),
        "all_gather": lambda: distributed.all_gather_into_tensor(whole, share),
        "reduce_scatter": lambda: distributed.reduce_scatter_tensor(share, whole),
        "alltoall": lambda: distributed.all_to_all_single(other, whole),
        "send_recv": lambda: distributed.send(whole, 1) if rank == 0 else distributed.recv(whole, 0),
    }
    launch = launches[row["op"]]
    for _ in range(_WARM_UPS):
        launch()
    torch.cuda.synchronize()
    distributed.barrier()
    times = []
    for _ in range(_REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        launch()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e-3)
    # The slowest rank's time is the collective's.
    slowest = torch.tensor([median(times)], device="cuda")
    distributed.all_reduce(slowest, op=distributed.ReduceOp.MAX)
    return float(slowest.item())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
