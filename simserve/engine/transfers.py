"""When KV entries that are moved have landed: over PCIe, in a GPU's memory, to and from tiers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from simserve.scheduler.batch import FIRST_TIER, FROM_HOST, ON_DEVICE, Landing, Transfer

# Submitting one `cudaMemcpyAsync` takes 5 to 7 us (Wu et al., "DualPath", arXiv 2602.21548, section 5.2, on
# Hopper); 4096 copies of 4 KiB take 22.4 ms, 5.5 us each, on MI300X (vLLM pull request 40549).
COPY_S = 5.5e-6


class TierPath(NamedTuple):
    """Rates of a tier behind the GPU, bytes per second, and seconds until the first byte that is read."""

    name: str
    read_bytes_per_s: float
    write_bytes_per_s: float
    latency_s: float = 0.0


class LayeredLoad(NamedTuple):
    """Bytes that a step takes in layer by layer: when the last has landed, and how many layers there are."""

    end_ns: int
    layers: int


class TransferClock:
    """The paths of one rank: PCIe to the host, PCIe from it, the GPU's memory, tiers with their own rates.

    Transfers of one path follow each other, whoever asked for them; paths do not slow each other down. Copies
    are submitted while earlier ones are under way, so a transfer takes the longer of submission and wire; one
    that holds two paths takes as long as the slower one. Weights in host memory come over the path from the
    host too, in order with the copies (`hold_for_weights`).

    Args:
        pcie_bytes_per_s: PCIe's rate in one direction.
        memory_bytes_per_s: The memory's rate; a copy reads and writes.
        tiers: Of each tier behind the GPU; not asked for those that are read over PCIe.

    Attributes:
        busy_ns: For how long each path has moved KV entries, and will for those under way, by its name.
    """

    def __init__(
        self,
        pcie_bytes_per_s: float,
        memory_bytes_per_s: float,
        tiers: Sequence[TierPath] = (),
    ) -> None:
        self._bytes_per_ns = [pcie_bytes_per_s / 1e9, pcie_bytes_per_s / 1e9, memory_bytes_per_s / 2e9]
        self._latency_ns = [0.0] * FIRST_TIER
        self._names = ["to_host", "from_host", "on_device"]
        for name, read, write, latency_s in tiers:
            self._names += [f"{name}_read", f"{name}_write"]
            self._bytes_per_ns += [read / 1e9, write / 1e9]
            self._latency_ns += [latency_s * 1e9, 0.0]
        self._free = [0] * len(self._bytes_per_ns)
        self.busy_ns: dict[str, int] = {}
        self._weights_until = 0
        # When what has a ticket lands, until that is past; and the same as a heap.
        self._landings: dict[int, int] = {}
        self._coming: list[tuple[int, int]] = []

    def duration_ns(self, transfer: Transfer) -> int:
        """Return how long a transfer takes that nothing else delays."""
        path, via = transfer.path, transfer.via
        wire_ns = transfer.size_bytes / self._bytes_per_ns[path]
        if via >= 0:
            wire_ns = max(wire_ns, transfer.size_bytes / self._bytes_per_ns[via])
        submit_ns = 0.0 if path == ON_DEVICE else transfer.copies * COPY_S * 1e9
        return round(max(wire_ns, submit_ns) + self._latency_ns[path])

    def start(self, transfer: Transfer, now_ns: int) -> Landing:
        """Begin a transfer as soon as its paths are free and what it reads has landed.

        Args:
            transfer: The transfer.
            now_ns: When it could begin.
        """
        begin = max(now_ns, self.free_at(transfer.path))
        if transfer.via >= 0:
            begin = max(begin, self.free_at(transfer.via))
        for ticket in transfer.after:
            begin = max(begin, self._landings.get(ticket, 0))
        duration = self.duration_ns(transfer)
        end = begin + duration
        for path in (transfer.path, transfer.via):
            if path >= 0:
                self._free[path] = end
                name = self._names[path]
                self.busy_ns[name] = self.busy_ns.get(name, 0) + duration
        if transfer.ticket >= 0:
            self._note_landing(transfer.ticket, end)
        return Landing(begin, end)

    def land(self, transfers: Iterable[Transfer], now_ns: int) -> tuple[int, list[LayeredLoad]]:
        """Start a step's transfers.

        Args:
            transfers: Of the step.
            now_ns: When it could begin: blocks of the step before are in use until then.

        Returns:
            When all that the step's first kernel waits for has landed, and what its later layers wait for.
        """
        begin, layered = now_ns, []
        for transfer in transfers:
            first, last = self.start(transfer, now_ns)
            if not transfer.awaited:
                continue
            if transfer.layers:
                layered.append(LayeredLoad(last, transfer.layers))
                last = first + -(-(last - first) // transfer.layers)
            begin = max(begin, last)
        return begin, layered

    def free_at(self, path: int) -> int:
        """Return when what is under way on a path will have landed."""
        free = self._free[path]
        return max(free, self._weights_until) if path == FROM_HOST else free

    def landed_at(self, ticket: int) -> int:
        """Return when what has a ticket lands, 0 if that is past."""
        return self._landings.get(ticket, 0)

    def forget_landed(self, now_ns: int) -> None:
        """Forget what has landed by the time of a decision."""
        coming, landings = self._coming, self._landings
        while coming and coming[0][0] <= now_ns:
            end, ticket = heappop(coming)
            if landings.get(ticket) == end:
                del landings[ticket]

    def busy_until(self, now_ns: int) -> dict[str, int]:
        """Return for how long each path has moved KV entries up to a time, by its name; without idle ones."""
        left = dict(zip(self._names, [max(0, free - now_ns) for free in self._free], strict=True))
        return {name: max(0, busy - left[name]) for name, busy in self.busy_ns.items()}

    def copies_until(self) -> int:
        """Return until when copies hold the path from the host."""
        return self._free[FROM_HOST]

    def hold_for_weights(self, begin_ns: int, duration_ns: int) -> None:
        """Let a step's weights have the path from the host from `begin_ns` on."""
        self._weights_until = max(self._weights_until, begin_ns + duration_ns)

    def _note_landing(self, ticket: int, end: int) -> None:
        self._landings[ticket] = max(end, self._landings.get(ticket, 0))
        heappush(self._coming, (end, ticket))
