"""One tier of KV memory behind the GPU's: its figures, the chunks that it holds, and what it has moved."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from simserve.errors import InputError

WriteMode = Literal["through", "back", "second_use"]
WRITE_MODES: tuple[WriteMode, ...] = ("through", "back", "second_use")


@dataclass(frozen=True, slots=True)
class TierSpec:
    """One tier.

    Attributes:
        name: As reports show it.
        capacity_bytes: Room for chunks.
        read_bytes_per_s, latency_s: From here into GPU memory, all hops taken together.
        write_bytes_per_s: Into it, from GPU memory or the tier above; None: as fast as it is read.
        write: When it gets what the tier above has: `through`: at once; `back`: when the tier above drops it;
            `second_use`: when it is used there for the second time.
    """

    name: str
    capacity_bytes: int
    read_bytes_per_s: float
    latency_s: float = 0.0
    write: WriteMode = "through"
    write_bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        if self.write not in WRITE_MODES:
            raise InputError(
                f"tier {self.name}: write: expected one of {', '.join(WRITE_MODES)}, got {self.write!r}"
            )
        rates = (self.read_bytes_per_s, self.written_at_bytes_per_s)
        if self.capacity_bytes < 0 or min(rates) <= 0 or self.latency_s < 0:
            raise InputError(f"tier {self.name}: expected capacity and latency >= 0 and rates above 0")

    @property
    def written_at_bytes_per_s(self) -> float:
        """Rate at which it is written."""
        return self.read_bytes_per_s if self.write_bytes_per_s is None else self.write_bytes_per_s


@dataclass(slots=True)
class TierCounts:
    """What a tier was asked and what it moved.

    Attributes:
        asked_chunks: Chunks that no tier above had.
        hit_chunks: Those of them that it held, whether they were fetched or not.
        read_bytes: Fetched from it (not by a prefetch's own hop above it).
        written_bytes, dropped_bytes: Written to it, and evicted from it.
    """

    asked_chunks: int = 0
    hit_chunks: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    dropped_bytes: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of the asked chunks that it held; 0 of none."""
        return self.hit_chunks / self.asked_chunks if self.asked_chunks else 0.0


class Tier:
    """The chunks of one tier, least recently used first.

    Args:
        spec: Its figures.
        chunk_bytes: Bytes per chunk.
    """

    def __init__(self, spec: TierSpec, chunk_bytes: int) -> None:
        self.spec = spec
        self.chunk_bytes = chunk_bytes
        self.capacity = spec.capacity_bytes // chunk_bytes
        self.counts = TierCounts()
        # Each with the number of the move that wrote it.
        self.chunks: OrderedDict[int, int] = OrderedDict()
        # Used once, of late: as many as the tier holds chunks.
        self._used_once: OrderedDict[int, None] = OrderedDict()

    def put(self, key: int, ticket: int) -> tuple[int, int] | None:
        """Write a chunk that is not there, with a move; return the one that had to go for it, if any.

        Returns:
            Its key, and the move that had brought it.
        """
        if not self.capacity:
            return key, ticket
        self.counts.written_bytes += self.chunk_bytes
        self.chunks[key] = ticket
        if len(self.chunks) <= self.capacity:
            return None
        self.counts.dropped_bytes += self.chunk_bytes
        return self.chunks.popitem(last=False)

    def note_use(self, key: int) -> bool:
        """Whether this is at least the second use of a chunk above this tier that is remembered."""
        if key in self._used_once:
            self._used_once.move_to_end(key)
            return True
        self._used_once[key] = None
        if len(self._used_once) > self.capacity:
            self._used_once.popitem(last=False)
        return False
