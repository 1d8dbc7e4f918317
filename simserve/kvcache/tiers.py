"""KV memory behind the GPU's: host DRAM, local NVMe, a remote pool; what is kept where, and what is moved.

A tier holds chunks of tokens by the keys of their prefixes (`prefix_keys.block_keys`), so a chunk is found by
whoever has the same tokens up to its end. Pure bookkeeping: no clock, and no link. Every call returns what
it moves, for an engine to price; every move has a number, and names those that it has to wait for: a chunk
can be read when its write has landed. Chunks of 256 tokens are LMCache's default; the ways to fill a tier are
those of SGLang's HiCache (`write_through`, `write_back`; `write_through_selective` is the second use).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from simserve.errors import IntegrityError
from simserve.kvcache.tier import Tier, TierCounts, TierSpec
from simserve.kvcache.tier_moves import GPU, Move, MoveCounter


class Traffic(Protocol):
    """What else is on the paths now, for estimates."""

    def path_wait_s(self, tier: int) -> float:
        """Return how long what is under way still holds the path on which a tier is read."""

    def landing_wait_s(self, ticket: int) -> float:
        """Return how long it takes until a move has landed."""


class Stretch(NamedTuple):
    """Chunks `begin ... end - 1` of a prefix, which tier `tier` holds (0 is the one next to the GPU)."""

    tier: int
    begin: int
    end: int


class TierStack:
    """Tiers behind one GPU pool, the nearest first.

    Args:
        specs: The tiers.
        bytes_per_token: KV bytes of a token, of all layers and ranks that share the tiers.
        chunk_tokens: Tokens per chunk.
    """

    def __init__(self, specs: Sequence[TierSpec], bytes_per_token: int, chunk_tokens: int = 256) -> None:
        self.chunk_tokens = chunk_tokens
        self.chunk_bytes = chunk_tokens * bytes_per_token
        self.tiers = [Tier(spec, self.chunk_bytes) for spec in specs]
        self._moves = MoveCounter()

    @property
    def counts(self) -> Mapping[str, TierCounts]:
        """What each tier was asked and has moved, by its name."""
        return {tier.spec.name: tier.counts for tier in self.tiers}

    # -- looking up and fetching --------------------------------------------------------------------------

    def find(self, keys: Sequence[int], skip: int = 0) -> list[Stretch]:
        """Return where the chunks of a prefix lie, up to the first that no tier has. Changes nothing.

        Args:
            keys: Keys of the prefix's chunks, from its start.
            skip: Chunks that the GPU has wholly.
        """
        stretches: list[Stretch] = []
        for index in range(skip, len(keys)):
            level = self._locate(keys[index])
            if level < 0:
                break
            if stretches and stretches[-1].tier == level:
                stretches[-1] = stretches[-1]._replace(end=index + 1)
            else:
                stretches.append(Stretch(level, index, index + 1))
        return stretches

    def _locate(self, key: int) -> int:
        for level, tier in enumerate(self.tiers):
            if key in tier.chunks:
                return level
        return -1

    def estimate_fetch_s(
        self, stretches: Iterable[Stretch], keys: Sequence[int] = (), traffic: Traffic | None = None
    ) -> float:
        """Return how long it takes to bring chunks to the GPU, one tier after the other.

        Args:
            stretches: What is fetched.
            keys: Keys of the prefix's chunks, from its start; asked for with `traffic` only.
            traffic: What has to land or to leave the paths first; None: they are idle.
        """
        return sum(self._estimate_fetch(stretches, keys, traffic))

    def _estimate_fetch(
        self, stretches: Iterable[Stretch], keys: Sequence[int], traffic: Traffic | None
    ) -> tuple[float, float]:
        """Return the seconds until a fetch can begin, and those that it takes then."""
        seconds = wait_s = 0.0
        used: list[int] = []
        for level, begin, end in stretches:
            tier = self.tiers[level]
            if level not in used:
                used.append(level)
                seconds += tier.spec.latency_s
                if traffic is not None:
                    wait_s = max(wait_s, traffic.path_wait_s(level))
            if traffic is not None:
                for ticket in dict.fromkeys([tier.chunks[key] for key in keys[begin:end]]):
                    wait_s = max(wait_s, traffic.landing_wait_s(ticket))
            seconds += (end - begin) * self.chunk_bytes / tier.spec.read_bytes_per_s
        return wait_s, seconds

    def choose_fetch(
        self,
        stretches: Sequence[Stretch],
        tokens: int,
        recompute_s: Callable[[int, int], float],
        keys: Sequence[int] = (),
        traffic: Traffic | None = None,
        layers: int = 1,
    ) -> list[Stretch]:
        """Return the first of the stretches that are worth fetching: the rest is sooner computed again.

        A later token costs more to compute and as much to fetch: a stretch is fetched whole or not at all.

        Args:
            stretches: What `find` found.
            tokens: Length of the prompt.
            recompute_s: (history, tokens) -> seconds of a prefill of so many tokens behind so many.
            keys, traffic: See `estimate_fetch_s`.
            layers: Pieces in which the fetch comes in, each just before a part of the computing needs it.
        """
        best: list[Stretch] = []
        if stretches:
            begin = stretches[0].begin * self.chunk_tokens
            least_s = recompute_s(begin, tokens - begin)
            for count, stretch in enumerate(stretches, 1):
                end = stretch.end * self.chunk_tokens
                rest_s = recompute_s(end, tokens - end) if tokens > end else 0.0
                wait_s, fetch_s = self._estimate_fetch(stretches[:count], keys, traffic)
                total_s = wait_s + max(fetch_s / layers + rest_s, fetch_s + rest_s / layers)
                if total_s < least_s:
                    least_s = total_s
                    best = list(stretches[:count])
        return best

    def fetch(
        self, keys: Sequence[int], found: Sequence[Stretch], chosen: Sequence[Stretch], skip: int = 0
    ) -> list[Move]:
        """Bring chunks to the GPU and, on the way, into the tiers above theirs; return what is moved.

        Args:
            keys, skip: As for `find`.
            found: What it found: counted as hits.
            chosen: What to fetch of it.
        """
        asked = max(len(keys) - skip, 0)
        for level, tier in enumerate(self.tiers):
            held = sum(stretch.end - stretch.begin for stretch in found if stretch.tier == level)
            tier.counts.asked_chunks += asked
            tier.counts.hit_chunks += held
            asked -= held
        for stretch in chosen:
            self._raise(keys, stretch, GPU)
        return self._moves.take()

    def prefetch(self, keys: Sequence[int], skip: int = 0) -> list[Move]:
        """Bring what lower tiers hold of a prefix into the first one, for a request that still waits."""
        for stretch in self.find(keys, skip):
            if stretch.tier:
                self._raise(keys, stretch, self.tiers[0].spec.name)
        return self._moves.take()

    def _raise(self, keys: Sequence[int], stretch: Stretch, target: str) -> None:
        """Read chunks, the last first, so that the first are the last to go again."""
        tier = self.tiers[stretch.tier]
        for key in reversed(keys[stretch.begin : stretch.end]):
            tier.counts.read_bytes += self.chunk_bytes
            ticket = self._moves.count(tier.spec.name, target, self.chunk_bytes, tier.chunks.get(key, -1))
            if key in tier.chunks:  # what was raised before may have pushed it out
                tier.chunks.move_to_end(key)
            for level in range(stretch.tier - 1, -1, -1):
                self._write(level, key, ticket, is_under_way=True)

    # -- filling ------------------------------------------------------------------------------------------

    def publish(self, keys: Sequence[int]) -> list[Move]:
        """Note that a request has the chunks of its prefix on the GPU: computed, found there or fetched."""
        for key in reversed(keys):
            self._fill(0, key, -1)
        return self._moves.take()

    def drop(self, keys: Sequence[int]) -> list[Move]:
        """Note that the GPU drops chunks; return what is written back."""
        for key in reversed(keys):
            self._write_back(0, key, -1)
        return self._moves.take()

    # Each of these takes a tier, a chunk, and the number of the move that brought it to where it comes from.

    def _fill(self, level: int, key: int, came_with: int) -> None:
        """Give a tier a chunk that is used above it, if it is to have it now; the tiers below likewise."""
        if level == len(self.tiers):
            return
        tier = self.tiers[level]
        if key in tier.chunks:
            tier.chunks.move_to_end(key)
        elif tier.spec.write == "through" or (tier.spec.write == "second_use" and tier.note_use(key)):
            self._write(level, key, came_with)
            return
        else:
            return
        self._fill(level + 1, key, tier.chunks[key])

    def _write(self, level: int, key: int, came_with: int, *, is_under_way: bool = False) -> None:
        """Write a chunk from the tier above, or one that passes through it on its way with that very move."""
        tier = self.tiers[level]
        if key in tier.chunks:
            tier.chunks.move_to_end(key)
            return
        ticket = came_with
        if tier.capacity and not is_under_way:
            source = self.tiers[level - 1].spec.name if level else GPU
            ticket = self._moves.count(source, tier.spec.name, self.chunk_bytes, came_with)
        gone = tier.put(key, ticket)
        if gone is None or gone[0] != key:
            self._fill(level + 1, key, ticket)
        if gone is not None:
            self._write_back(level + 1, *gone)

    def _write_back(self, level: int, key: int, came_with: int) -> None:
        """Give a tier a chunk that the one above has dropped, if it takes such and has it not."""
        if level < len(self.tiers) and self.tiers[level].spec.write == "back":
            self._write(level, key, came_with)

    def check_integrity(self) -> None:
        """Check that no tier holds more than it can, and that what came and went adds up.

        Raises:
            IntegrityError: If that does not hold.
        """
        for tier in self.tiers:
            held = len(tier.chunks) * self.chunk_bytes
            if len(tier.chunks) > tier.capacity:
                raise IntegrityError(f"tier {tier.spec.name} holds more than it can")
            if tier.counts.written_bytes - tier.counts.dropped_bytes != held:
                raise IntegrityError(f"bytes of tier {tier.spec.name} do not add up")
