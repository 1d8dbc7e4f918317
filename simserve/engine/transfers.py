"""When the KV entries that a step needs moved have landed: swaps over PCIe, copies within a GPU's memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from simserve.scheduler.batch import FIRST_TIER, ON_DEVICE, Transfer

# Submitting one `cudaMemcpyAsync` takes 5 to 7 us (Wu et al., "DualPath", arXiv 2602.21548, section 5.2, on
# Hopper); 4096 copies of 4 KiB take 22.4 ms, 5.5 us each, on MI300X (vLLM pull request 40549).
COPY_S = 5.5e-6


class TransferClock:
    """The paths of one rank: PCIe to the host, PCIe from it, and the GPU's own memory.

    Transfers of one path follow each other, whoever asked for them; paths do not slow each other down. Copies
    are submitted while earlier ones are under way, so a transfer takes the longer of submission and wire.

    Args:
        pcie_bytes_per_s: PCIe's rate in one direction.
        memory_bytes_per_s: The memory's rate; a copy reads and writes.
        tiers: (bytes per second, latency in seconds) of the path from each tier behind the GPU; not asked for
            those that are read over PCIe.
    """

    def __init__(
        self,
        pcie_bytes_per_s: float,
        memory_bytes_per_s: float,
        tiers: Sequence[tuple[float, float]] = (),
    ) -> None:
        self._bytes_per_ns = [pcie_bytes_per_s / 1e9, pcie_bytes_per_s / 1e9, memory_bytes_per_s / 2e9]
        self._bytes_per_ns += [bytes_per_s / 1e9 for bytes_per_s, _ in tiers]
        self._latency_ns = [0.0] * FIRST_TIER + [latency_s * 1e9 for _, latency_s in tiers]
        self._free = [0] * len(self._bytes_per_ns)
        # When what has a ticket lands, until somebody has waited for it.
        self._landings: dict[int, int] = {}

    def duration_ns(self, transfer: Transfer) -> int:
        """Return how long a transfer takes that nothing else delays."""
        wire_ns = transfer.size_bytes / self._bytes_per_ns[transfer.path]
        submit_ns = 0.0 if transfer.path == ON_DEVICE else transfer.copies * COPY_S * 1e9
        return round(max(wire_ns, submit_ns) + self._latency_ns[transfer.path])

    def land(self, transfers: Iterable[Transfer], now_ns: int) -> int:
        """Start transfers as soon as their paths are free; returns when all that are awaited have landed."""
        landed = now_ns
        for transfer in transfers:
            begin = max(now_ns, self._free[transfer.path])
            if transfer.awaited and transfer.ticket >= 0:
                begin = max(begin, self._landings.pop(transfer.ticket, 0))
            self._free[transfer.path] = end = begin + self.duration_ns(transfer)
            if transfer.awaited:
                landed = max(landed, end)
            elif transfer.ticket >= 0:
                self._landings[transfer.ticket] = max(end, self._landings.get(transfer.ticket, 0))
        return landed
